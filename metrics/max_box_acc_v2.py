"""MaxBoxAccV2: Choe et al., Evaluation for Weakly Supervised Object Localization, 2020, arXiv:2007.04178."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from bench.explanation import Explanation
from metrics.drawn_rows import mean
from metrics.max_box_acc import accuracy
from metrics.threshold_sweep import boxes_above


def max_box_acc_v2(
    explanation: Explanation, ious: Sequence[float] = (0.3, 0.5, 0.7), connectivity: int = 8
) -> dict[str, Tensor]:
    """MaxBoxAcc with the boxes of all regions, each against each true box, averaged over `ious` -> (B,) each.

    An image's own values are those of a data set of that image alone: see `max_box_acc`. The curve max_box_acc_v2_iou
    (B, 100) holds the best IoU of any region's box at each threshold. max_box_acc_v2_30, ...: one `ious` alone.
    """
    curves = torch.from_numpy(boxes_above(explanation, connectivity).best_iou)
    parts = {_name(iou): accuracy(curves, iou) for iou in ious}
    mean = torch.stack(list(parts.values())).mean(0)
    return {"max_box_acc_v2": mean, **parts, "max_box_acc_v2_iou": curves}


def over_images(
    curves: Mapping[str, np.ndarray], ious: Sequence[float], counts: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """For each of `ious` the maximum over thresholds, its own, of the share of images that reach it; and their mean.

    counts: see `metrics.drawn_rows`.
    """
    found = curves["max_box_acc_v2_iou"]
    parts = {_name(iou): mean(found >= iou, counts).max(-1) for iou in ious}
    return {"max_box_acc_v2": np.mean(list(parts.values()), 0), **parts}


def _name(iou: float) -> str:
    """The value's name at one IoU: max_box_acc_v2_50."""
    return f"max_box_acc_v2_{round(100 * iou)}"
