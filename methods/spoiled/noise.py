"""The true map mixed with noise."""

from __future__ import annotations

import torch

from axiom_bench.cutting.trace import Trace
from axiom_bench.explanation.explanation import Map
from axiom_bench.methods.shared.true_map import checked, mixed, true_map


def noise(trace: Trace, degree: float, seed: int = 0) -> Map:
    """(1 - degree) T + degree N, T the true map, N normal noise with T's norm -> (B, h, w).

    The noise is independent at each position of the map, and seeded by the original image and
    `seed`. Raises BenchError where the truth isn't known, and for a degree outside of [0, 1].
    """
    checked(degree)
    truth = true_map(trace)
    draws = trace.generators(seed)
    spoil = [torch.randn(truth.shape[1:], generator=draw, dtype=torch.float64) for draw in draws]
    return Map(mixed(truth, torch.stack(spoil).to(truth), degree))
