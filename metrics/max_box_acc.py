"""MaxBoxAcc: Choe et al., Evaluating Weakly Supervised Object Localization Methods Right, 2020,
arXiv:2001.07437.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from axiom_bench.errors import BenchError
from axiom_bench.explanation.explanation import Curve, Explanation
from axiom_bench.metrics.shared.protocol import Protocol, box_curves, mean, thresholds


def max_box_acc(
    explanation: Explanation, iou: float = 0.5, protocol: Protocol = "wsol", connectivity: int = 8
) -> dict[str, Tensor | Curve]:
    """The share of images whose largest region's box has an IoU >= `iou`, at the data set's best
    threshold.

    That value is `over_images`. Of an image alone: box_acc_own_threshold (B,), 1 where its box
    reaches `iou` at any threshold, else 0; its mean is above the data set's value, where one
    threshold serves all images. The curve max_box_acc_iou (B, T) holds the best IoU with any of the
    class's boxes at each of `thresholds(protocol)`. A zero map, and one that isn't finite, is a
    miss. protocol "wsol": what the authors' code computes, see `shared.protocol`; "heatmap":
    regions of pixels above a fraction of the heatmap's maximum. Raises BenchError for an `iou` not
    in (0, 1], and for another protocol.
    """
    points = torch.from_numpy(box_curves(explanation, protocol, connectivity)[0])
    return {"box_acc_own_threshold": accuracy(points, iou), "max_box_acc_iou": Curve(points)}


def over_images(
    curves: Mapping[str, np.ndarray],
    iou: float,
    protocol: Protocol,
    counts: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """max over thresholds of the share of images whose box has an IoU of at least `iou`, and the
    first such threshold.

    The paper's BoxAcc(tau, delta), delta = `iou`, and its maximum over tau. counts: see
    `protocol.total`.
    """
    shares = mean(curves["max_box_acc_iou"] >= iou, counts)
    return {
        "max_box_acc": shares.max(-1),
        "max_box_acc_threshold": np.array(thresholds(protocol))[shares.argmax(-1)],
    }


def whole_set_values(protocol: Protocol) -> dict[str, dict[str, Any]]:
    """The values of the data set with their metadata: the published name is of the published
    protocol alone.
    """
    title = "MaxBoxAcc" if protocol == "wsol" else "Heatmap box accuracy"
    threshold = {"unit": "fraction of the maximum", "better": "none", "tolerance": "mean:0.05"}
    return {
        "max_box_acc": {"title": title},
        "max_box_acc_threshold": {"title": f"{title}, threshold", **threshold},
    }


def accuracy(curves: Tensor, iou: float) -> Tensor:
    """(B, T) IoU -> (B,): 1 where any reaches `iou`, else 0; NaN where all are NaN. Raises
    BenchError.
    """
    if not 0 < iou <= 1:
        raise BenchError(f"The IoU that a box must reach lies above 0 and up to 1; it is {iou}.")
    reached = (curves >= iou).any(1).double()
    return reached.masked_fill(curves.isnan().all(1), torch.nan)
