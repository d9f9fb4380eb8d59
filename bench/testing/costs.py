"""What a method costs an image beyond its trace, counted for a layer of one size, as docs and leaderboard tell it."""

from __future__ import annotations

from dataclasses import asdict

import torch

from axiom_bench.cutting.passes import Passes
from axiom_bench.errors import BenchError
from axiom_bench.evaluation.plugins import Plugin
from axiom_bench.evaluation.specs import MethodSpec
from axiom_bench.testing.cases import Case

# 512 channels of 7 x 7, as the last layer of VGG-16: signed, so that no channel is constant, and for `cam` pooled.
LAYER = tuple(
    Case("pooled", layer, channels=512, size=(14, 14), rows=1, dtype=torch.float32)
    for layer in ("features.2", "features.3")
)


def passes_of(method: Plugin[MethodSpec]) -> Passes:
    """Counted on a tiny network of LAYER's channels and positions; ablation drops aren't. Raises BenchError where it
    refuses these."""
    for case in LAYER:
        trace = case.trace()
        _ = trace.ablation_drops
        before = asdict(trace.passes)
        try:
            method(trace)
        except BenchError:  # it needs the other head
            continue
        return Passes(**{name: count - before[name] for name, count in asdict(trace.passes).items()})
    raise BenchError(f"The method {method.name!r} refuses the networks on which its cost is counted.")


def in_words(method: Plugin[MethodSpec], passes: Passes) -> str:
    """Counted passes; a trace is a forward pass with the head's gradient."""
    if method.spec.needs_drops:
        return "ablation drops"
    if passes.trunk_forward and passes.trunk_backward:
        return f"{passes.trunk_forward} forward and backward"
    if passes.trunk_forward:
        traces = "1 trace" if passes.trunk_forward == 1 else f"{passes.trunk_forward} traces"
        return traces if passes.head_backward else f"{passes.trunk_forward} forward"
    backward = f", {passes.head_backward} backward" if passes.head_backward else ""
    return f"{passes.head_forward} head forward{backward}" if passes.head_forward else ""
