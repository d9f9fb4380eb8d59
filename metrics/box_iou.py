"""Localization by box: Zhou et al., CAM, CVPR 2016, arXiv:1512.04150.

The default threshold of 15 % is that of Grad-CAM, ICCV 2017.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from axiom_bench.errors import BenchError
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.shared.rounding import level, millionths
from axiom_bench.metrics.shared.threshold_sweep import (
    BEST,
    FRACTIONS,
    boxes_above,
    check_connectivity,
    check_fraction,
)


def box_iou(
    explanation: Explanation,
    fraction: float | str = 0.15,
    connectivity: int = 8,
    regions: str = "largest",
) -> Tensor:
    """Compute the IoU of a true box with the box around the largest region above a threshold.

    The region is a connected component of the pixels above fraction x maximum. It has the most
    pixels; of equals, the first in reading order counts. The map is rounded to 1e-6. Of several
    boxes of the class, the one with the highest IoU counts. A box is x0 y0 x1 y1 in pixels, x1 and
    y1 exclusive. For signals and volumes a box has the starts and then the ends, the last axis
    first.

    Args:
        explanation: The explanation, with its heatmap (B, H', W') and the class's boxes.
        fraction: The threshold as a fraction of the maximum. With "best", each image has its best
            of 0, 0.01, ... 0.99, chosen with the annotation.
        connectivity: 8 if pixels that touch at a corner are connected, otherwise 4.
        regions: "largest" for the largest component, "all" for the best of all components' boxes.

    Returns:
        The IoU, (B,). It is NaN for rows without a box or with a zero map.

    Raises:
        BenchError: If `fraction`, `connectivity` or `regions` isn't one of these choices.
    """
    if regions not in ("largest", "all"):
        raise BenchError(f"box_iou's regions are 'largest' or 'all', not {regions!r}.")
    check_fraction(fraction)
    check_connectivity(connectivity)
    if fraction == BEST and explanation.dimensions != 2:
        values = [box_iou(explanation, threshold, connectivity, regions) for threshold in FRACTIONS]
        return torch.from_numpy(np.fmax.reduce(torch.stack(values).numpy(), axis=0))
    if fraction == BEST:
        boxes = boxes_above(explanation, connectivity)
        has_region = boxes.largest[..., 2] > 0
        ious = boxes.iou if regions == "largest" else boxes.best_iou
        return torch.from_numpy(np.fmax.reduce(np.where(has_region, ious, np.nan), axis=1))
    # A single threshold is labelled by SciPy, so that a first run doesn't wait for numba.
    above = millionths(explanation) > level(float(fraction))
    best_ious = []
    for pixels, true_boxes in zip(above, explanation.required_boxes, strict=True):
        region_boxes = _regions(pixels, connectivity, regions)
        best_ious.append(_best_iou(region_boxes, true_boxes.detach().cpu().double().numpy()))
    return torch.tensor(best_ious, dtype=torch.float64)


def _regions(above: np.ndarray, connectivity: int, regions: str) -> np.ndarray:
    """Return the boxes (n, 4) of the connected components of (H', W'), or only of the largest."""
    structure = ndimage.generate_binary_structure(
        above.ndim, 1 if connectivity == 4 else above.ndim
    )
    labels, count = ndimage.label(above, structure)
    if regions == "largest" and count > 1:
        largest = np.bincount(labels.ravel())[1:].argmax() + 1
        labels = (labels == largest).astype(np.uint8)
    corners = []
    for slices in ndimage.find_objects(labels):
        sides = slices[::-1]  # the last axis first
        corners.append(([side.start for side in sides], [side.stop for side in sides]))
    return np.array(corners, dtype=float).reshape(-1, 2 * above.ndim)


def _best_iou(boxes: np.ndarray, true_boxes: np.ndarray) -> float:
    """Compute the best IoU of boxes (n, 4) with true boxes (m, 4); NaN if either is missing."""
    if not len(boxes) or not len(true_boxes):
        return float("nan")
    starts, ends = np.split(boxes, 2, axis=1)
    true_starts, true_ends = np.split(true_boxes, 2, axis=1)
    near = np.maximum(starts[:, None], true_starts)
    far = np.minimum(ends[:, None], true_ends)
    shared = (far - near).clip(0).prod(2)
    areas = (ends - starts).prod(1)
    true_areas = (true_ends - true_starts).prod(1)
    return float((shared / (areas[:, None] + true_areas - shared)).max())
