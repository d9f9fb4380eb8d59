"""Locate the explained object of a network that finds boxes or masks."""

from __future__ import annotations

import torch
from torch import Tensor

from axiom_bench.cutting.objects import scored_boxes, scored_regions
from axiom_bench.cutting.trace import Trace


def centres(trace: Trace) -> tuple[Tensor, Tensor]:
    """Return x and y of the explained box's centre, or of the centre of the region's mass.

    Args:
        trace: The trace of a network with boxes or masks.

    Returns:
        x and y, (B,) each, from 0 to 1 along the image.

    Raises:
        BenchError: If the network finds neither boxes nor masks.
    """
    regions = scored_regions(trace)
    if regions is None:
        x0, y0, x1, y1 = scored_boxes(trace).T
        height, width = trace.images.shape[2:]
        return (x0 + x1) / (2 * width), (y0 + y1) / (2 * height)
    column_sums = regions.sum(1)
    row_sums = regions.sum(2)
    x = column_sums @ position_centres(column_sums) / column_sums.sum(1)
    y = row_sums @ position_centres(row_sums) / row_sums.sum(1)
    return x, y


def explained_object(trace: Trace) -> Tensor:
    """Return a map that is 1 in the explained box or region and 0 elsewhere.

    A pixel is in the box if the pixel's centre is.

    Args:
        trace: The trace of a network with boxes or masks.

    Returns:
        The box's map, (B, H', W'), or the region, (B, h, w) of the network's maps.

    Raises:
        BenchError: If the network finds neither boxes nor masks.
    """
    regions = scored_regions(trace)
    if regions is not None:
        return regions
    x0, y0, x1, y1 = scored_boxes(trace).T[..., None]
    x = position_centres(trace.images) * trace.images.shape[3]
    y = position_centres(trace.images.mT) * trace.images.shape[2]
    is_row_inside = (y >= y0) & (y < y1)
    is_column_inside = (x >= x0) & (x < x1)
    inside: Tensor = (is_row_inside[:, :, None] & is_column_inside[:, None]).to(trace.dtype)
    return inside


def position_centres(values: Tensor) -> Tensor:
    """Return the centres of the positions along the last axis, from 0 to 1.

    Args:
        values: A tensor (..., W).

    Returns:
        The centres, (W,), in the type of the values and on their device.
    """
    side = values.shape[-1]
    return (torch.arange(side, device=values.device) + 0.5).to(values) / side


def squared_distances(x: Tensor, y: Tensor, columns: Tensor, rows: Tensor) -> Tensor:
    """Return the squared distances of a grid's positions from one point per image.

    Args:
        x: The points' horizontal coordinates, (B,).
        y: The points' vertical coordinates, (B,).
        columns: The horizontal coordinates of the grid, (W,).
        rows: The vertical coordinates of the grid, (H,).

    Returns:
        The squared distances, (B, H, W).
    """
    vertical = (rows - y[:, None]) ** 2
    horizontal = (columns - x[:, None]) ** 2
    return vertical[:, :, None] + horizontal[:, None]
