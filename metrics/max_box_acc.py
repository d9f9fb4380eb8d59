"""MaxBoxAcc: Choe et al., CVPR 2020, arXiv:2001.07437.

The paper is "Evaluating Weakly Supervised Object Localization Methods Right".
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from axiom_bench.errors import BenchError
from axiom_bench.explanation.explanation import Curve, Explanation
from axiom_bench.metrics.shared.protocol import Protocol, box_curves, mean, thresholds


def max_box_acc(
    explanation: Explanation, iou: float = 0.5, protocol: Protocol = "wsol", connectivity: int = 8
) -> dict[str, Tensor | Curve]:
    """Compute the IoU of the largest region's box at each threshold, and whether it reaches `iou`.

    The value of the data set is `over_images`: the share of images whose box has an IoU >= `iou`,
    at the data set's best threshold. box_acc_own_threshold is 1 if an image's box reaches `iou` at
    any threshold, otherwise 0. Its mean is above the data set's value, which has one threshold for
    all images. A zero map, and one that isn't finite, is a miss.

    Args:
        explanation: The explanation, with its maps and the class's boxes.
        iou: The smallest IoU of a hit, above 0 and at most 1.
        protocol: "wsol" for what the authors' code computes; see `shared.protocol`. "heatmap" for
            regions of pixels above a fraction of the heatmap's maximum.
        connectivity: 8 or 4; see `shared.protocol.box_curves`.

    Returns:
        box_acc_own_threshold, (B,); and the curve max_box_acc_iou, (B, T). The curve has the best
        IoU with any of the class's boxes at each of `thresholds(protocol)`.

    Raises:
        BenchError: If `iou` isn't in (0, 1], or the protocol is unknown or doesn't have this
            connectivity.
    """
    # The curve of the largest region's box; `max_box_acc_v2` has that of the best region's.
    largest, _ = box_curves(explanation, protocol, connectivity)
    points = torch.from_numpy(largest)
    return {"box_acc_own_threshold": accuracy(points, iou), "max_box_acc_iou": Curve(points)}


def over_images(
    curves: Mapping[str, np.ndarray],
    iou: float,
    protocol: Protocol,
    counts: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """Compute the data set's value, and the first threshold at which it is reached.

    The value is max over thresholds of the share of images whose box has an IoU of at least `iou`.
    It is the paper's BoxAcc(tau, delta), delta = `iou`, and its maximum over tau.

    Args:
        curves: The curve max_box_acc_iou of all N images, (N, T).
        iou: The smallest IoU of a hit.
        protocol: The protocol of the curves.
        counts: How often each image is drawn in each resample, (R, N); see `protocol.total`.

    Returns:
        max_box_acc and max_box_acc_threshold, a number each, or (R,) with counts.
    """
    shares = mean(curves["max_box_acc_iou"] >= iou, counts)
    best = shares.argmax(-1)  # of equals, the first threshold
    return {
        "max_box_acc": shares.max(-1),
        "max_box_acc_threshold": np.array(thresholds(protocol))[best],
    }


def whole_set_values(protocol: Protocol) -> dict[str, dict[str, str]]:
    """Return the data set's values with their metadata.

    Args:
        protocol: The protocol. Only the published protocol has the published name.

    Returns:
        The metadata by the value's name.
    """
    title = "MaxBoxAcc" if protocol == "wsol" else "Heatmap box accuracy"
    threshold = {"unit": "fraction of the maximum", "better": "none", "tolerance": "mean:0.05"}
    return {
        "max_box_acc": {"title": title},
        "max_box_acc_threshold": {"title": f"{title}, threshold", **threshold},
    }


def accuracy(curves: Tensor, iou: float) -> Tensor:
    """Return 1 for each row whose IoU reaches `iou` at any threshold, otherwise 0.

    Args:
        curves: The IoU at each threshold, (B, T).
        iou: The smallest IoU of a hit.

    Returns:
        1 or 0, (B,); NaN if all IoU are NaN.

    Raises:
        BenchError: If `iou` isn't in (0, 1].
    """
    if not 0 < iou <= 1:
        raise BenchError(f"The IoU that a box must reach lies above 0 and up to 1; it is {iou}.")
    reached = (curves >= iou).any(1).double()
    return reached.masked_fill(curves.isnan().all(1), torch.nan)
