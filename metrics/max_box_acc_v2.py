"""MaxBoxAccV2: Choe et al., Evaluation for Weakly Supervised Object Localization, 2020, arXiv:2007.04178."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from axiom_bench.errors import BenchError
from axiom_bench.explanation.curve import Curve
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.max_box_acc import accuracy
from axiom_bench.metrics.shared.drawn_rows import mean
from axiom_bench.metrics.shared.threshold_sweep import boxes_above


def max_box_acc_v2(
    explanation: Explanation, ious: Sequence[float] = (0.3, 0.5, 0.7), connectivity: int = 8
) -> dict[str, Tensor | Curve]:
    """MaxBoxAcc with the boxes of all regions, each against each true box, averaged over `ious` -> (B,) each.

    An image's own values are those of a data set of that image alone: see `max_box_acc`. The curve max_box_acc_v2_iou
    (B, 100) holds the best IoU of any region's box at each threshold. max_box_acc_v2_30, ...: one `ious` alone.
    Raises BenchError for other `ious` than `values` allows.
    """
    points = torch.from_numpy(boxes_above(explanation, connectivity).best_iou)
    parts = {name: accuracy(points, iou) for name, iou in _named(ious).items()}
    mean = torch.stack(list(parts.values())).mean(0)
    return {"max_box_acc_v2": mean, **parts, "max_box_acc_v2_iou": Curve(points)}


def over_images(
    curves: Mapping[str, np.ndarray], ious: Sequence[float], counts: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """For each of `ious` the maximum over thresholds, its own, of the share of images that reach it; and their mean.

    counts: see `shared.drawn_rows`.
    """
    points = curves["max_box_acc_v2_iou"]
    parts = {name: mean(points >= iou, counts).max(-1) for name, iou in _named(ious).items()}
    return {"max_box_acc_v2": np.mean(list(parts.values()), 0), **parts}


def values(ious: Sequence[float] = (0.3, 0.5, 0.7)) -> dict[str, dict[str, str]]:
    """The values' names, each with its title.

    Raises BenchError for no `ious`, for one not in (0, 1], and for two that are the same in whole percent.
    """
    parts = {name: {"title": f"MaxBoxAccV2, IoU {iou}"} for name, iou in _named(ious).items()}
    return {"max_box_acc_v2": {"title": "MaxBoxAccV2"}, **parts}


def _named(ious: Sequence[float]) -> dict[str, float]:
    """Each IoU under its value's name: max_box_acc_v2_50."""
    named = {f"max_box_acc_v2_{round(100 * iou)}": iou for iou in ious}
    if not named or len(named) < len(ious) or not all(0 < iou <= 1 for iou in ious):
        raise BenchError(
            "max_box_acc_v2's ious lie above 0 and up to 1, one or more and no two of the same whole percent; "
            f"they are {list(ious)}."
        )
    return named
