"""The true map, blurred."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import BenchError
from axiom_bench.explanation.explanation import Map
from axiom_bench.methods.shared.true_map import checked, true_map


def blur(trace: Trace, degree: float, sigma: float = 0.25) -> Map:
    """The true map under a Gaussian of standard deviation degree * sigma, in units of each side ->
    (B, h, w).

    Beyond its border the map is continued as in a mirror, so that its sum stays. Every frequency
    fades with the degree: a higher degree is further from the truth for certain. Raises BenchError
    where the truth isn't known, for a degree outside of [0, 1], and for sigma <= 0.
    """
    checked(degree)
    if not sigma > 0:
        raise BenchError(
            f"Invalid sigma={sigma}; give the standard deviation in sides of the map, above 0."
        )
    truth = true_map(trace)
    if degree == 0:
        return Map(truth)
    down, across = (_gaussian(size, degree * sigma * size).to(truth) for size in truth.shape[-2:])
    return Map(down @ truth @ across)


def _gaussian(size: int, sigma: float) -> Tensor:
    """The (size, size) symmetric matrix that blurs one side, sigma in positions: cosines of
    frequency f, which mirror at the border, times exp(-sigma^2 f^2 / 2).
    """
    place = torch.arange(size, dtype=torch.float64) + 0.5
    frequency = math.pi * torch.arange(size, dtype=torch.float64) / size
    cosines = torch.cos(frequency[:, None] * place) * math.sqrt(2 / size)
    cosines[0] /= math.sqrt(2)
    return cosines.T @ (torch.exp(-0.5 * (sigma * frequency) ** 2)[:, None] * cosines)
