"""MaxBoxAcc: Choe et al., Evaluating Weakly Supervised Object Localization Methods Right, 2020, arXiv:2001.07437."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from axiom_bench.errors import BenchError
from axiom_bench.explanation.curve import Curve
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.shared.drawn_rows import mean
from axiom_bench.metrics.shared.threshold_sweep import FRACTIONS, boxes_above


def max_box_acc(explanation: Explanation, iou: float = 0.5, connectivity: int = 8) -> dict[str, Tensor | Curve]:
    """Is there a threshold at which the box around the largest region has an IoU of at least `iou`? -> (B,), 1 or 0.

    An image's own value is the metric of a data set of that image alone, so its mean is above the data set's, where
    one threshold serves all images. Thresholds are 0, 0.01, ... 0.99 of the maximum; pixels above them; any of the
    class's boxes counts. The curve max_box_acc_iou (B, 100) holds the best IoU at each threshold.
    Raises BenchError for an `iou` not in (0, 1].
    """
    points = torch.from_numpy(boxes_above(explanation, connectivity).iou)
    return {"max_box_acc": accuracy(points, iou), "max_box_acc_iou": Curve(points)}


def over_images(
    curves: Mapping[str, np.ndarray], iou: float, counts: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """max over thresholds of the share of images whose box has an IoU of at least `iou`, and the first such threshold.

    The paper's BoxAcc(tau, delta), delta = `iou`, and its maximum over tau. counts: see `shared.drawn_rows`.
    """
    shares = mean(curves["max_box_acc_iou"] >= iou, counts)
    return {"max_box_acc": shares.max(-1), "max_box_acc_threshold": np.array(FRACTIONS)[shares.argmax(-1)]}


def accuracy(curves: Tensor, iou: float) -> Tensor:
    """(B, T) IoU -> (B,): 1 where one reaches `iou`, else 0; NaN where none is known. Raises BenchError."""
    if not 0 < iou <= 1:
        raise BenchError(f"The IoU that a box must reach lies above 0 and up to 1; it is {iou}.")
    reached = (curves >= iou).any(1).double()
    return reached.masked_fill(curves.isnan().all(1), torch.nan)
