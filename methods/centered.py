"""A centre Gaussian, a baseline: Choe et al., CVPR 2020, arXiv:2001.07437.

Evaluating Weakly Supervised Object Localization Methods Right.
"""

from __future__ import annotations

from functools import reduce

import torch
from torch import Tensor

from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import InvalidParameter
from axiom_bench.explanation.explanation import Map


def centered(trace: Trace, sigma: float = 0.25, x: float = 0.0, y: float = 0.0) -> Map:
    """exp(-(x^2 + y^2) / (2 sigma^2)), x and y from the image's centre -> (B, H', W').

    Args:
        trace: The traced batch, with images (B, 3, H', W').
        sigma: The standard deviation in sides of the image, above 0.
        x: Move the Gaussian's centre to the right by this share of the image's width. Signals have
            only x.
        y: Move the Gaussian's centre down by this share of the image's height.

    Returns:
        The map, (B, H', W').

    Raises:
        BenchError: If sigma <= 0.
    """
    if not sigma > 0:
        raise InvalidParameter(
            f"Invalid sigma={sigma}; give the standard deviation in sides of the image, above 0."
        )
    sides = [
        _offsets(size, trace.activations.device).to(trace.dtype) for size in trace.images.shape[2:]
    ]
    # Axes are depth, height and width, of which signals have only the last one.
    centre = (0.0, y, x)[-len(sides) :]
    grids = torch.meshgrid(*sides, indexing="ij")
    offsets = [grid - coordinate for grid, coordinate in zip(grids, centre, strict=True)]
    squares = reduce(torch.add, [offset**2 for offset in offsets])
    return Map(torch.exp(-squares / (2 * sigma**2)).expand(len(trace), *squares.shape))


def _offsets(size: int, device: torch.device) -> Tensor:
    """Return the pixel centres along one side, between -1/2 and 1/2: (size,)."""
    return (torch.arange(size, dtype=torch.float64, device=device) + 0.5) / size - 0.5
