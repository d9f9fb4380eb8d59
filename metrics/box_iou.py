"""Localization by box: Zhou et al., CAM, CVPR 2016, arXiv:1512.04150; at 15 % as in Grad-CAM, ICCV
2017.
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
    """The best IoU, over the class's boxes, of the box around the largest region above fraction x
    maximum -> (B,).

    The region is the connected component with the most pixels (of equals, the first in reading
    order) of the map rounded to 1e-6; connectivity: 8 (diagonals touch) or 4. fraction "best": each
    image's best of 0, 0.01, ... 0.99, chosen by the annotation. regions "all": the best of all
    components' boxes. Boxes: x0 y0 x1 y1 in pixels, x1 and y1 exclusive; of signals and volumes
    starts and then ends, the last axis first. Rows without a box or with a zero map give NaN.
    Raises BenchError for another choice.
    """
    if regions not in ("largest", "all"):
        raise BenchError(f"box_iou's regions are 'largest' or 'all', not {regions!r}.")
    check_fraction(fraction)
    check_connectivity(connectivity)
    if fraction == BEST and explanation.dimensions != 2:
        curves = torch.stack(
            [box_iou(explanation, each, connectivity, regions) for each in FRACTIONS]
        ).numpy()
        return torch.from_numpy(np.fmax.reduce(curves, axis=0))
    if fraction == BEST:
        boxes = boxes_above(explanation, connectivity)
        curves = np.where(
            boxes.largest[..., 2] > 0, boxes.iou if regions == "largest" else boxes.best_iou, np.nan
        )
        return torch.from_numpy(np.fmax.reduce(curves, axis=1))
    # One labelling needs no compiled code, which a first run would wait for.
    above = millionths(explanation) > level(float(fraction))
    rows = zip(above, explanation.required_boxes, strict=True)
    return torch.tensor(
        [
            _best_iou(
                _regions(pixels, connectivity, regions), boxes.detach().cpu().double().numpy()
            )
            for pixels, boxes in rows
        ],
        dtype=torch.float64,
    )


def _regions(above: np.ndarray, connectivity: int, regions: str) -> np.ndarray:
    """(H', W') bool -> (n, 4) the boxes of the connected components, or of the largest alone."""
    structure = ndimage.generate_binary_structure(
        above.ndim, 1 if connectivity == 4 else above.ndim
    )
    labels, count = ndimage.label(above, structure)
    if regions == "largest" and count > 1:
        labels = (labels == np.bincount(labels.ravel())[1:].argmax() + 1).astype(np.uint8)
    slices = ndimage.find_objects(labels)
    corners = [
        ([side.start for side in box[::-1]], [side.stop for side in box[::-1]]) for box in slices
    ]
    return np.array(corners, dtype=float).reshape(-1, 2 * above.ndim)


def _best_iou(boxes: np.ndarray, true_boxes: np.ndarray) -> float:
    """The best IoU of boxes (n, 4) with true boxes (m, 4); NaN where either are missing."""
    if not len(boxes) or not len(true_boxes):
        return float("nan")
    (starts, ends), (true_starts, true_ends) = (
        np.split(each, 2, axis=1) for each in (boxes, true_boxes)
    )
    near = np.maximum(starts[:, None], true_starts)
    far = np.minimum(ends[:, None], true_ends)
    shared = (far - near).clip(0).prod(2)
    areas = (ends - starts).prod(1)
    true_areas = (true_ends - true_starts).prod(1)
    return float((shared / (areas[:, None] + true_areas - shared)).max())
