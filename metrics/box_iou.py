"""Localization by box: Zhou et al., CAM, CVPR 2016, arXiv:1512.04150; at 15 % as in Grad-CAM, ICCV 2017."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from axiom_bench.errors import BenchError
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.shared.threshold_sweep import BEST, FRACTIONS, boxes_above, check_fraction


def box_iou(
    explanation: Explanation, fraction: float | str = 0.15, connectivity: int = 8, regions: str = "largest"
) -> Tensor:
    """The best IoU, over the class's boxes, of the box around the largest region above fraction x maximum -> (B,).

    The region is the connected component with the most pixels (of equals, the first in reading order) of the map
    rounded to 1e-6; connectivity: 8 (diagonals touch) or 4. fraction "best": each image's best of 0, 0.01, ... 0.99,
    chosen by the annotation. regions "all": the best of all components' boxes. Boxes: x0 y0 x1 y1 in pixels, x1 and y1
    exclusive. Rows without a box or with a zero map give NaN. Raises BenchError for another choice.
    """
    if regions not in ("largest", "all"):
        raise BenchError(f"box_iou's regions are 'largest' or 'all', not {regions!r}.")
    check_fraction(fraction)
    swept = fraction == BEST or fraction in FRACTIONS
    boxes = boxes_above(explanation, connectivity, FRACTIONS if swept else (float(fraction),))
    curves = np.where(boxes.largest[..., 2] > 0, boxes.iou if regions == "largest" else boxes.best_iou, np.nan)
    if fraction == BEST:
        return torch.from_numpy(np.fmax.reduce(curves, axis=1))
    return torch.from_numpy(curves[:, FRACTIONS.index(float(fraction)) if swept else 0].copy())
