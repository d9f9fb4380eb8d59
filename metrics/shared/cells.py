"""Maps at the image's size, and a grid of rectangular cells over the image.

Metrics that remove a cell at a time need few passes, which all methods share.
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
    """Return the signed raw map, resized bilinearly to the image's size.

    Args:
        explanation: The explanation, with its raw map (B, h, w).

    Returns:
        The maps, (B, H', W') in float64.
    """
    raw_map = explanation.required_raw_map.double()
    return resized(raw_map, explanation.required_heatmap.shape[1:])


def cell_numbers(explanation: Explanation, grid: int) -> Tensor:
    """Return the number of each pixel's cell, 0 to grid^2 - 1 in reading order.

    Cells have equal sides if `grid` divides the image's sides. Otherwise their sides differ by a
    pixel. Signals and volumes have as many cells: grid^2 one after the other, or a factor of it
    along each axis, such as 2 x 2 x 4.

    Args:
        explanation: The explanation, with its images and heatmap (B, H', W').
        grid: The number of cells per side.

    Returns:
        The numbers, int64 (H', W'), on the images' device.

    Raises:
        BenchError: If the grid has less than two cells per side, or more cells than pixels per
            side.
    """
    sides = explanation.required_heatmap.shape[1:]
    counts = cells_along(sides, grid)
    if grid < 2 or any(count > side for count, side in zip(counts, sides, strict=True)):
        size = " x ".join(map(str, sides))
        raise BenchError(
            f"A grid has 2 to {min(sides)} cells a side on images of {size} pixels, not {grid}."
        )
    numbers = torch.zeros((), dtype=torch.long, device=explanation.required_images.device)
    # Each axis is one more digit of a cell's number, so the last axis counts fastest.
    for side, count in zip(sides, counts, strict=True):
        digits = torch.arange(side, device=numbers.device) * count // side
        numbers = numbers[..., None] * count + digits
    return numbers


def cells_along(sides: Sequence[int], grid: int) -> list[int]:
    """Return the numbers of cells along each axis, whose product is grid^2.

    The numbers are as even as possible, with the larger ones along the longer sides. A side of 1
    has one cell.

    Args:
        sides: The image's sides in pixels.
        grid: The number of cells per side of a square.

    Returns:
        The numbers of cells, one for each side.
    """
    divided_axes = [axis for axis, side in enumerate(sides) if side > 1]
    longest_first = sorted(divided_axes, key=lambda axis: -sides[axis])
    factors = [count for count in range(1, grid**2 + 1) if grid**2 % count == 0]
    # Of all products that are grid^2, the one with the smallest sum has the most even factors.
    choices = product(factors, repeat=len(longest_first))
    products = [counts for counts in choices if prod(counts) == grid**2]
    most_even = min(products, key=sum, default=())
    count_by_axis = dict(zip(longest_first, sorted(most_even, reverse=True), strict=False))
    return [count_by_axis.get(axis, 1) for axis in range(len(sides))]


def cell_sums(maps: Tensor, numbers: Tensor, count: int) -> Tensor:
    """Return the sum of each map over each cell.

    Args:
        maps: The maps, (B, H', W').
        numbers: The number of each pixel's cell, int64 (H', W').
        count: The number of cells.

    Returns:
        The sums, (B, cells).
    """
    cells = torch.arange(count, device=numbers.device)
    # A product of matrices, (pixels,) and (cells, pixels), is the same on every device.
    inside = (numbers.flatten() == cells[:, None]).to(maps)
    return maps.flatten(1).to(numbers.device) @ inside.T
