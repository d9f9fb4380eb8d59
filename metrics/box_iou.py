"""Localization by box: Zhou et al., CAM, CVPR 2016, arXiv:1512.04150; at 15 % as in Grad-CAM, ICCV 2017."""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from bench.errors import BenchError
from bench.explanation import Explanation
from bench.preconditions import given
from metrics.rounding import rounded

NEIGHBOURS = {4: ndimage.generate_binary_structure(2, 1), 8: ndimage.generate_binary_structure(2, 2)}


def box_iou(explanation: Explanation, fraction: float = 0.15, connectivity: int = 8) -> Tensor:
    """The best IoU, over the class's boxes, of the box around the largest region above fraction x maximum -> (B,).

    The region is the connected component with the most pixels (of equals, the first in reading order) of the map
    rounded to 1e-6; connectivity: 8 (diagonals touch) or 4. Boxes: x0 y0 x1 y1 in pixels, x1 and y1 exclusive.
    Rows without a box or with a zero map give NaN. Raises BenchError for another connectivity.
    """
    if connectivity not in NEIGHBOURS:
        raise BenchError(f"box_iou's connectivity is 4 or 8, not {connectivity!r}.")
    maps = rounded(given(explanation.heatmap, "heatmap")).cpu().numpy()
    found = (_region_box(one > fraction, connectivity) for one in maps)
    values = [_best_iou(box, truth) for box, truth in zip(found, given(explanation.boxes, "boxes"), strict=True)]
    return torch.tensor(values, dtype=torch.float64)


def _region_box(above: np.ndarray, connectivity: int) -> tuple[int, int, int, int] | None:
    """The box around the largest connected component of a (H', W') mask; None where the mask is empty."""
    labels, count = ndimage.label(above, NEIGHBOURS[connectivity])
    if count == 0:
        return None
    largest = int(np.bincount(labels.ravel())[1:].argmax())
    rows, columns = ndimage.find_objects(labels)[largest]
    return columns.start, rows.start, columns.stop, rows.stop


def _best_iou(box: tuple[int, int, int, int] | None, truth: Tensor) -> float:
    """The best intersection over union of one box with (n, 4) others; NaN where either is missing."""
    if box is None or len(truth) == 0:
        return float("nan")
    mine, boxes = torch.tensor(box, dtype=torch.float64), truth.double().cpu()
    sides = (torch.minimum(mine[2:], boxes[:, 2:]) - torch.maximum(mine[:2], boxes[:, :2])).clamp(min=0)
    shared = sides.prod(1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    return float((shared / ((mine[2:] - mine[:2]).prod() + areas - shared)).max())
