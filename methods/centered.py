"""A centre Gaussian, a baseline: Choe et al., Evaluating WSOL Methods Right, CVPR 2020,
arXiv:2001.07437.
"""

from __future__ import annotations

from functools import reduce

import torch
from torch import Tensor

from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import BenchError
from axiom_bench.explanation.explanation import Map


def centered(trace: Trace, sigma: float = 0.25, x: float = 0.0, y: float = 0.0) -> Map:
    """exp(-(x^2 + y^2) / (2 sigma^2)), x and y from the centre in units of the sides -> (B, H',
    W').

    x, y: another centre's distance from the image's, to the right and down, in sides. Signals have
    x alone. Raises BenchError for sigma <= 0.
    """
    if not sigma > 0:
        raise BenchError(
            f"Invalid sigma={sigma}; give the standard deviation in sides of the image, above 0."
        )
    sides = [
        _offsets(size, trace.activations.device).to(trace.dtype) for size in trace.images.shape[2:]
    ]
    centre, places = (0.0, y, x)[-len(sides) :], torch.meshgrid(*sides, indexing="ij")
    squares = reduce(
        torch.add, [(place - at) ** 2 for place, at in zip(places, centre, strict=True)]
    )
    return Map(torch.exp(-squares / (2 * sigma**2)).expand(len(trace), *squares.shape))


def _offsets(size: int, device: torch.device) -> Tensor:
    """Pixel centres along one side, between -1/2 and 1/2: (size,)."""
    return (torch.arange(size, dtype=torch.float64, device=device) + 0.5) / size - 0.5
