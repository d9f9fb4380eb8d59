"""The true map, blurred."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import InvalidParameter
from axiom_bench.explanation.explanation import Map
from axiom_bench.methods.shared.true_map import check_degree, true_map


def blur(trace: Trace, degree: float, sigma: float = 0.25) -> Map:
    """Gaussian blur of the true map -> (B, h, w).

    Beyond its border the map is continued as in a mirror, so that its sum is kept. Every frequency
    fades with the degree: a higher degree is always further from the truth.

    Args:
        trace: The traced batch of a network or images whose true map is known.
        degree: The degree of spoiling, from 0 to 1. The standard deviation is degree * sigma.
        sigma: The largest standard deviation, in units of each side, above 0.

    Returns:
        The map, (B, h, w).

    Raises:
        BenchError: If the truth isn't known, if the degree is outside [0, 1], or if sigma <= 0.
    """
    check_degree(degree)
    if not sigma > 0:
        raise InvalidParameter(
            f"Invalid sigma={sigma}; give the standard deviation in sides of the map, above 0."
        )
    truth = true_map(trace)
    # Without spoiling the map is the truth to the last bit, which a blur would round.
    if degree == 0:
        return Map(truth)
    down, across = (_gaussian(size, degree * sigma * size).to(truth) for size in truth.shape[-2:])
    return Map(down @ truth @ across)


def _gaussian(size: int, sigma: float) -> Tensor:
    """Return the symmetric matrix (size, size) that blurs one side, sigma in positions."""
    # Cosines of frequency f, which mirror at the border, times exp(-sigma^2 f^2 / 2).
    position = torch.arange(size, dtype=torch.float64) + 0.5
    frequency = math.pi * torch.arange(size, dtype=torch.float64) / size
    cosines = torch.cos(frequency[:, None] * position) * math.sqrt(2 / size)
    cosines[0] /= math.sqrt(2)
    return cosines.T @ (torch.exp(-0.5 * (sigma * frequency) ** 2)[:, None] * cosines)
