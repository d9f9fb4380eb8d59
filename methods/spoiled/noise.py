"""The true map mixed with noise."""

from __future__ import annotations

import torch

from axiom_bench.cutting.trace import Trace
from axiom_bench.explanation.explanation import Map
from axiom_bench.methods.shared.true_map import check_degree, mix_with_truth, true_map


def noise(trace: Trace, degree: float, seed: int = 0) -> Map:
    """(1 - degree) T + degree N, T the true map, N normal noise with T's norm -> (B, h, w).

    The noise is independent at each position of the map, and seeded by the original image and
    `seed`.

    Args:
        trace: The traced batch of a network or images whose true map is known.
        degree: The degree of spoiling, from 0 to 1.
        seed: The seed of the noise.

    Returns:
        The map, (B, h, w).

    Raises:
        BenchError: If the truth isn't known, or if the degree is outside [0, 1].
    """
    check_degree(degree)
    truth = true_map(trace)
    draws = [
        torch.randn(truth.shape[1:], generator=generator, dtype=torch.float64)
        for generator in trace.generators(seed)
    ]
    return Map(mix_with_truth(truth, torch.stack(draws).to(truth), degree))
