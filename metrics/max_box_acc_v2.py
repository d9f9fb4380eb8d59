"""MaxBoxAccV2: Choe et al., 2020, arXiv:2007.04178.

The paper is "Evaluation for Weakly Supervised Object Localization".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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
    """Compute MaxBoxAcc with the boxes of all regions, each against each true box, over `ious`.

    The data set's values are `over_images`. box_acc_v2_own_threshold is that of an image, see
    `max_box_acc`, averaged over `ious`.

    Args:
        explanation: The explanation, with its maps and the class's boxes.
        ious: The IoU of a hit, each above 0 and at most 1. No two are the same in whole percent.
        protocol: "wsol" or "heatmap"; see `max_box_acc`.
        connectivity: 8 or 4; see `shared.protocol.box_curves`.

    Returns:
        box_acc_v2_own_threshold, (B,), and the same of each of `ious`. The curve
        max_box_acc_v2_iou, (B, T), has the best IoU of any region's box at each threshold.

    Raises:
        BenchError: If `values` doesn't accept the `ious`, or the protocol or connectivity is
            unknown.
    """
    # The curve of the best region's box; `max_box_acc` has that of the largest region's.
    _, best = box_curves(explanation, protocol, connectivity)
    points = torch.from_numpy(best)
    parts = {name: accuracy(points, iou) for name, iou in _named(OWN, ious).items()}
    mean_accuracy = torch.stack(list(parts.values())).mean(0)
    return {
        OWN: mean_accuracy,
        **parts,
        "max_box_acc_v2_iou": Curve(points),
    }


def over_images(
    curves: Mapping[str, np.ndarray], ious: Sequence[float], counts: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Compute the maximum over thresholds of the share of hits for each of `ious`, and their mean.

    Args:
        curves: The curve max_box_acc_v2_iou of all N images, (N, T).
        ious: The IoU of a hit. Each has its own best threshold.
        counts: How often each image is drawn in each resample, (R, N); see `protocol.total`.

    Returns:
        The values by name, a number each, or (R,) with counts.
    """
    points = curves["max_box_acc_v2_iou"]
    parts = {}
    for name, iou in _named(WHOLE_SET, ious).items():
        parts[name] = mean(points >= iou, counts).max(-1)
    return {WHOLE_SET: np.mean(list(parts.values()), 0), **parts}


def values(ious: Sequence[float]) -> dict[str, dict[str, str]]:
    """Return an image's values, each with its metadata.

    The values have no direction, since they don't rank methods.

    Args:
        ious: The IoU of a hit.

    Returns:
        The metadata by the value's name.

    Raises:
        BenchError: If there are no `ious`, one isn't in (0, 1], or two are the same in whole
            percent.
    """
    return _values(OWN, "Box accuracy V2, own best threshold", ious, {"better": "none"})


def whole_set_values(ious: Sequence[float], protocol: Protocol) -> dict[str, dict[str, str]]:
    """Return the data set's values with their titles.

    Args:
        ious: The IoU of a hit.
        protocol: The protocol. Only the published protocol has the published name.

    Returns:
        The metadata by the value's name.

    Raises:
        BenchError: If `values` doesn't accept the `ious`.
    """
    title = "MaxBoxAccV2" if protocol == "wsol" else "Heatmap box accuracy V2"
    return _values(WHOLE_SET, title, ious, {})


def _values(
    name: str, title: str, ious: Sequence[float], entries: dict[str, str]
) -> dict[str, dict[str, str]]:
    """Return the metadata of the mean and of each IoU."""
    metadata = {name: {"title": title, **entries}}
    for part, iou in _named(name, ious).items():
        metadata[part] = {"title": f"{title}, IoU {iou}", **entries}
    return metadata


def _named(name: str, ious: Sequence[float]) -> dict[str, float]:
    """Return each IoU under its value's name, such as max_box_acc_v2_50."""
    named = {f"{name}_{round(100 * iou)}": iou for iou in ious}
    if not named or len(named) < len(ious) or not all(0 < iou <= 1 for iou in ious):
        raise BenchError(
            "max_box_acc_v2's ious lie above 0 and up to 1, one or more and no two of the same "
            f"whole percent; they are {list(ious)}."
        )
    return named
