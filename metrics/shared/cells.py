"""Maps at the image's size, and a grid of rectangular cells over the image: how much of a map lies in each cell."""

from __future__ import annotations

import torch
import torch.nn.functional as functional
from torch import Tensor

from axiom_bench.errors import BenchError
from axiom_bench.explanation.explanation import Explanation, given


def enlarged(explanation: Explanation) -> Tensor:
    """The signed raw map, resized bilinearly to the image's size: (B, H', W') in float64."""
    raw_map = given(explanation.raw_map, "raw_map").double()
    height, width = given(explanation.heatmap, "heatmap").shape[1:]
    return functional.interpolate(raw_map[:, None], (height, width), mode="bilinear", align_corners=False)[:, 0]


def cell_numbers(explanation: Explanation, grid: int) -> Tensor:
    """The number of each pixel's cell, 0 to grid^2 - 1 in reading order: int64 (H', W'), on the images' device.

    Cells have equal sides where `grid` divides the image's, and sides that differ by a pixel elsewhere.
    Raises BenchError for a grid of less than two cells a side, and for one of more cells than pixels a side.
    """
    height, width = given(explanation.heatmap, "heatmap").shape[1:]
    if not 2 <= grid <= min(height, width):
        raise BenchError(
            f"A grid has 2 to {min(height, width)} cells a side on images of {height} x {width} pixels, not {grid}."
        )
    device = given(explanation.images, "images").device
    down, across = (torch.arange(length, device=device) * grid // length for length in (height, width))
    return down[:, None] * grid + across


def cell_sums(maps: Tensor, numbers: Tensor, count: int) -> Tensor:
    """The sum of each map over each of `count` cells: (B, H', W') and int64 (H', W') -> (B, cells)."""
    cells = torch.arange(count, device=numbers.device)
    inside = (numbers.flatten() == cells[:, None]).to(maps)  # (cells, pixels); a product is the same on every device
    return maps.flatten(1).to(numbers.device) @ inside.T
