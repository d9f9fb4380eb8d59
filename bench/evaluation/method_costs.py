"""Forward passes that methods cost, counted on a stand-in network with the real layer's channels and positions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from axiom_bench.cutting.cut_model import cut
from axiom_bench.cutting.output import Output
from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import BenchError
from axiom_bench.evaluation.plugins import Plugin

HIDDEN, MAX_CLASSES = 4, 16


def passes_of_methods(methods: Sequence[Plugin], trace: Trace) -> tuple[dict[str, int], int]:
    """Forward passes of the full model that explaining one image costs beyond its trace: of each method by itself, and
    of all methods on one trace, where they may share passes.

    trace: of the real model. Only a method that the stand-ins can't run, or that explains other layers too, is run on
    it, on its first row; a method that doesn't apply to it either costs nothing. Passes of the head alone don't count.
    """
    candidates = [*(_stand_in(trace, pooled) for pooled in (True, False)), trace[:1]]
    passes_by_method: dict[str, int] = {}
    total, shared_traces = 0, [candidate[:] for candidate in candidates]
    for method in methods:
        for candidate, shared_trace in zip(candidates, shared_traces, strict=True):
            passes = _count(method, candidate[:], raises=candidate is candidates[-1])
            if passes is not None:
                passes_by_method[method.name] = passes
                total += _count(method, shared_trace, raises=True) or 0
                break
        else:
            passes_by_method[method.name] = 0
    return passes_by_method, total


def _count(method: Plugin, trace: Trace, raises: bool) -> int | None:
    """The trunk's forward passes of one call; None where the method doesn't apply.

    raises: whether errors other than BenchError are raised; on a stand-in they mean that the method doesn't apply.
    """
    before = trace.passes.trunk_forward
    try:
        method(trace)
    except BenchError:
        return None
    except Exception:
        if raises:
            raise
        return None
    return trace.passes.trunk_forward - before


class _Features(nn.Module):
    """The stand-in's layer, `relu`, and a finer one that no score depends on, so that a method that explains other
    layers than the run's own is refused here: which there are, and how many, only the real network can tell."""

    def __init__(self, channels: int, height: int, width: int) -> None:
        super().__init__()
        self.finer = nn.AdaptiveAvgPool2d((height + 1, width + 1))
        self.convolution, self.relu = nn.Conv2d(3, channels, 1, bias=False), nn.ReLU()

    def forward(self, images: Tensor) -> Tensor:
        self.finer(images)
        features: Tensor = self.relu(self.convolution(images))
        return features


def _stand_in(trace: Trace, pooled: bool) -> Trace:
    """One image of a network whose layer has as many channels and positions as the trace's, and images of its size."""
    _, channels, height, width = trace.activations.shape
    classes = min(trace.logits.shape[1], MAX_CLASSES)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if pooled:
            head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))
        else:
            inputs = channels * height * width
            head = nn.Sequential(nn.Flatten(), nn.Linear(inputs, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, classes))
        features, images = _Features(channels, height, width), torch.randn(1, 3, height, width)
    model = nn.Sequential(features, head).eval()
    output = Output("stand-in", are_logits=True, softmax=trace.cut_model.output.softmax)
    return cut(model, "0.relu", ablation_memory=trace.cut_model.ablation_memory, output=output).trace(images)
