"""Where the explained object of a network of boxes or of masks is."""

from __future__ import annotations

import torch
from torch import Tensor

from axiom_bench.cutting.objects import boxes_of, regions_of
from axiom_bench.cutting.trace import Trace


def centres(trace: Trace) -> tuple[Tensor, Tensor]:
    """x and y of the explained box's centre, or of the region's mass, from 0 to 1 along the image:
    (B,) each.

    Raises BenchError for a network of something else.
    """
    regions = regions_of(trace)
    if regions is None:
        x0, y0, x1, y1 = boxes_of(trace).T
        return (x0 + x1) / (2 * trace.images.shape[3]), (y0 + y1) / (2 * trace.images.shape[2])
    columns, rows = regions.sum(1), regions.sum(2)
    return columns @ middles(columns) / columns.sum(1), rows @ middles(rows) / rows.sum(1)


def explained_object(trace: Trace) -> Tensor:
    """1 in the explained box, (B, H', W'), or in the region, (B, h, w) of the network's maps; 0
    elsewhere.

    A pixel is in the box where its centre is. Raises BenchError for a network of something else.
    """
    regions = regions_of(trace)
    if regions is not None:
        return regions
    x0, y0, x1, y1 = boxes_of(trace).T[..., None]
    x, y = (middles(each) * each.shape[3] for each in (trace.images, trace.images.mT))
    rows, columns = (y >= y0) & (y < y1), (x >= x0) & (x < x1)
    return (rows[:, :, None] & columns[:, None]).to(trace.dtype)


def middles(values: Tensor) -> Tensor:
    """Where the places along the last axis are, from 0 to 1, in the values' type and on their
    device: (W,).
    """
    side = values.shape[-1]
    return (torch.arange(side, device=values.device) + 0.5).to(values) / side


def squared_distances(x: Tensor, y: Tensor, columns: Tensor, rows: Tensor) -> Tensor:
    """From x and y, (B,) each, of the places at columns (W,) and rows (H,): (B, H, W)."""
    return ((rows - y[:, None]) ** 2)[:, :, None] + ((columns - x[:, None]) ** 2)[:, None]
