"""What a method costs in forward passes, counted on a stand-in network with the real layer's channels and positions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from axiom_bench.cutting.cut_model import cut
from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import BenchError
from axiom_bench.evaluation.plugins import Plugin

HIDDEN, MOST_CLASSES = 4, 16


def passes_of_methods(methods: Sequence[Plugin], trace: Trace) -> tuple[dict[str, int], int]:
    """Forward passes of the whole model that explaining one image costs beyond its trace: of each method by itself,
    and of all on one trace, where some share passes.

    trace: of the real model. Only a method that the stand-ins can't run is run on it, on its first row; a method that
    refuses this too costs nothing. Passes of the head alone don't count.
    """
    candidates = [*(_stand_in(trace, pooled) for pooled in (True, False)), trace[:1]]
    alone: dict[str, int] = {}
    together, shared = 0, [own[:] for own in candidates]
    for method in methods:
        for own, common in zip(candidates, shared, strict=True):
            passes = _count(method, own[:], last=own is candidates[-1])
            if passes is not None:
                alone[method.name] = passes
                together += _count(method, common, last=True) or 0
                break
        else:
            alone[method.name] = 0
    return alone, together


def _count(method: Plugin, trace: Trace, last: bool) -> int | None:
    """The trunk's forward passes of one call; None where the method doesn't apply.

    last: whether any other error than a refusal is raised; a method may rely on what a stand-in lacks.
    """
    before = trace.passes.trunk_forward
    try:
        method(trace)
    except BenchError:
        return None
    except Exception:
        if last:
            raise
        return None
    return trace.passes.trunk_forward - before


def _stand_in(trace: Trace, pooled: bool) -> Trace:
    """One image of a network whose layer has as many channels and positions as the trace's, and images of its size."""
    _, channels, height, width = trace.activations.shape
    classes = min(trace.logits.shape[1], MOST_CLASSES)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        features = nn.Sequential(nn.Conv2d(3, channels, 1, bias=False), nn.ReLU())
        if pooled:
            head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))
        else:
            inputs = channels * height * width
            head = nn.Sequential(nn.Flatten(), nn.Linear(inputs, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, classes))
        images = torch.randn(1, 3, height, width)
    model = nn.Sequential(features, head).eval()
    return cut(model, "0.1", ablation_memory=trace.cut_model.ablation_memory).trace(images)
