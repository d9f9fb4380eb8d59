"""MaxBoxAccV2: Choe et al., Evaluation for Weakly Supervised Object Localization, 2020,
arXiv:2007.04178.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from axiom_bench.errors import BenchError
from axiom_bench.explanation.explanation import Curve, Explanation
from axiom_bench.metrics.max_box_acc import accuracy
from axiom_bench.metrics.shared.protocol import Protocol, box_curves, mean

OWN = "box_acc_v2_own_threshold"  # an image's value at its own best thresholds
WHOLE_SET = "max_box_acc_v2"


def max_box_acc_v2(
    explanation: Explanation,
    ious: Sequence[float] = (0.3, 0.5, 0.7),
    protocol: Protocol = "wsol",
    connectivity: int = 8,
) -> dict[str, Tensor | Curve]:
    """MaxBoxAcc with the boxes of all regions, each against each true box, averaged over `ious`.

    The data set's values are `over_images`; of an image alone, box_acc_v2_own_threshold (B,), see
    `max_box_acc`, and the same of each of `ious`. The curve max_box_acc_v2_iou (B, T) holds the
    best IoU of any region's box at each threshold. protocol: see `max_box_acc`. Raises BenchError
    for other `ious` than `values` allows.
    """
    points = torch.from_numpy(box_curves(explanation, protocol, connectivity)[1])
    parts = {name: accuracy(points, iou) for name, iou in _named(OWN, ious).items()}
    return {
        OWN: torch.stack(list(parts.values())).mean(0),
        **parts,
        "max_box_acc_v2_iou": Curve(points),
    }


def over_images(
    curves: Mapping[str, np.ndarray], ious: Sequence[float], counts: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """For each of `ious` the maximum over thresholds, its own, of the share of images that reach
    it; and their mean.

    counts: see `protocol.total`.
    """
    points = curves["max_box_acc_v2_iou"]
    parts = {
        name: mean(points >= iou, counts).max(-1) for name, iou in _named(WHOLE_SET, ious).items()
    }
    return {WHOLE_SET: np.mean(list(parts.values()), 0), **parts}


def values(ious: Sequence[float]) -> dict[str, dict[str, Any]]:
    """An image's values, each with its metadata: no direction, since they are no ranking of
    methods.

    Raises BenchError for no `ious`, for one not in (0, 1], and for two that are the same in whole
    percent.
    """
    return _values(OWN, "Box accuracy V2, own best threshold", ious, {"better": "none"})


def whole_set_values(ious: Sequence[float], protocol: Protocol) -> dict[str, dict[str, Any]]:
    """The data set's values with their titles: the published name is of the published protocol
    alone.

    Raises BenchError as `values` does.
    """
    title = "MaxBoxAccV2" if protocol == "wsol" else "Heatmap box accuracy V2"
    return _values(WHOLE_SET, title, ious, {})


def _values(
    name: str, title: str, ious: Sequence[float], entries: dict[str, Any]
) -> dict[str, dict[str, Any]]:
    parts = {
        part: {"title": f"{title}, IoU {iou}", **entries}
        for part, iou in _named(name, ious).items()
    }
    return {name: {"title": title, **entries}, **parts}


def _named(name: str, ious: Sequence[float]) -> dict[str, float]:
    """Each IoU under its value's name: max_box_acc_v2_50."""
    named = {f"{name}_{round(100 * iou)}": iou for iou in ious}
    if not named or len(named) < len(ious) or not all(0 < iou <= 1 for iou in ious):
        raise BenchError(
            "max_box_acc_v2's ious lie above 0 and up to 1, one or more and no two of the same "
            f"whole percent; they are {list(ious)}."
        )
    return named
