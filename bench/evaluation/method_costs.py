"""Forward passes that methods cost, counted on a stand-in network with the real layer's channels and positions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from axiom_bench.cutting.cut_model import cut
from axiom_bench.cutting.output import Output
from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import BenchError
from axiom_bench.evaluation.plugins import Plugin

HIDDEN, MAX_CLASSES = 4, 16


def passes_of_methods(
    methods: Sequence[Plugin], trace: Trace, versions: float | None = None
) -> tuple[dict[str, float], float]:
    """Forward passes of the full model that explaining one image costs beyond its trace: of each method by itself, and
    of all methods on one trace, where they may share passes.

    trace: of the real model. Only a method that the stand-ins can't run, or that explains other layers too, is run on
    it, on its first row; a method that doesn't apply to it either costs nothing. Passes of the head alone don't count.
    versions: of an image without its parts, each a pass of `part_effects`; None: as many as the first row has. Of a
    trace of one row, that row is the one trace of all methods, and keeps what they share.
    """
    row = trace if len(trace) == 1 else trace[:1]
    stand_ins = [_stand_in(trace, pooled) for pooled in (True, False)]
    candidates, shared_traces = [*stand_ins, row], [*(stand_in[:] for stand_in in stand_ins), row]
    passes_by_method: dict[str, float] = {}
    total = 0.0
    for method in methods:
        for candidate, shared_trace in zip(candidates, shared_traces, strict=True):
            passes = _count(method, fresh(candidate), versions, raises=candidate is row)
            if passes is not None:
                passes_by_method[method.name] = passes
                total += _count(method, shared_trace, versions, raises=True) or 0
                break
        else:
            passes_by_method[method.name] = 0
    return passes_by_method, total


def fresh(trace: Trace) -> Trace:
    """The same tensors without anything computed from them."""
    return replace(trace)


def versions_of(row: Trace) -> int:
    """The number of versions without its parts that the image of a trace of one row has: passes of `part_effects`."""
    return sum(len(part.images) for parts in row.interventions or () for part in parts)


def _count(method: Plugin, trace: Trace, versions: float | None, raises: bool) -> float | None:
    """The trunk's forward passes of one call; None where the method doesn't apply.

    raises: whether errors other than BenchError are raised; on a stand-in they mean that the method doesn't apply.
    """
    before, known = trace.passes.trunk_forward, "part_effects" in vars(trace)
    try:
        method(trace)
    except BenchError:
        return None
    except Exception:
        if raises:
            raise
        return None
    own = versions_of(trace) if "part_effects" in vars(trace) and not known else 0
    return trace.passes.trunk_forward - before + (0 if versions is None or not own else versions - own)


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
