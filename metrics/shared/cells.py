"""Maps at the image's size, and a grid of rectangular cells over the image: how much of a map lies
in each cell.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import prod

import torch
from torch import Tensor

from axiom_bench.cutting.numerics import resized
from axiom_bench.errors import BenchError
from axiom_bench.explanation.explanation import Explanation


def enlarged(explanation: Explanation) -> Tensor:
    """The signed raw map, resized bilinearly to the image's size: (B, H', W') in float64."""
    raw_map = explanation.required_raw_map.double()
    return resized(raw_map, explanation.required_heatmap.shape[1:])


def cell_numbers(explanation: Explanation, grid: int) -> Tensor:
    """The number of each pixel's cell, 0 to grid^2 - 1 in reading order: int64 (H', W'), on the
    images' device.

    Cells have equal sides where `grid` divides the image's, and sides that differ by a pixel
    elsewhere. Signals and volumes have as many cells: grid^2 one after the other, or a factor of it
    along each axis, as 2 x 2 x 4. Raises BenchError for a grid of less than two cells a side, and
    for one of more cells than pixels a side.
    """
    sides = explanation.required_heatmap.shape[1:]
    counts = cells_along(sides, grid)
    if grid < 2 or any(count > side for count, side in zip(counts, sides, strict=True)):
        size = " x ".join(map(str, sides))
        raise BenchError(
            f"A grid has 2 to {min(sides)} cells a side on images of {size} pixels, not {grid}."
        )
    numbers = torch.zeros((), dtype=torch.long, device=explanation.required_images.device)
    for side, count in zip(sides, counts, strict=True):
        numbers = (
            numbers[..., None] * count + torch.arange(side, device=numbers.device) * count // side
        )
    return numbers


def cells_along(sides: Sequence[int], grid: int) -> list[int]:
    """The numbers of cells along each axis, as even as their product grid^2 lets them be, the
    larger along the longer sides, and 1 along a side of 1.
    """
    longer = sorted(
        (axis for axis, side in enumerate(sides) if side > 1), key=lambda axis: -sides[axis]
    )
    factors = [count for count in range(1, grid**2 + 1) if grid**2 % count == 0]
    even = min(
        (each for each in product(factors, repeat=len(longer)) if prod(each) == grid**2),
        key=sum,
        default=(),
    )
    along = dict(zip(longer, sorted(even, reverse=True), strict=False))
    return [along.get(axis, 1) for axis in range(len(sides))]


def cell_sums(maps: Tensor, numbers: Tensor, count: int) -> Tensor:
    """The sum of each map over each of `count` cells: (B, H', W') and int64 (H', W') -> (B,
    cells).
    """
    cells = torch.arange(count, device=numbers.device)
    inside = (numbers.flatten() == cells[:, None]).to(
        maps
    )  # (cells, pixels); a product is the same on every device
    return maps.flatten(1).to(numbers.device) @ inside.T
