"""GT-known localization: Choe et al., CVPR 2020, arXiv:2001.07437.

Boxes are made as in Zhou et al., CAM, CVPR 2016.
"""

from __future__ import annotations

import torch
from torch import Tensor

from axiom_bench.errors import BenchError
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.box_iou import box_iou


def gt_known_loc(
    explanation: Explanation, fraction: float = 0.2, iou: float = 0.5, connectivity: int = 8
) -> Tensor:
    """Return 1 if the map of the true class locates it, whatever class is predicted, otherwise 0.

    The map locates the class if the box around the largest region above fraction x maximum has an
    IoU >= `iou` with one of the class's boxes. The explained class must be the true one:
    target=label or each_label. The mean is the rate.

    Args:
        explanation: The explanation, with its heatmap (B, H', W') and the class's boxes.
        fraction: The threshold as a fraction of the maximum; see `box_iou`.
        iou: The smallest IoU of a hit, above 0 and at most 1.
        connectivity: 8 or 4; see `box_iou`.

    Returns:
        1 or 0, (B,). A map that isn't finite, or has no positive value, has 0. The value is NaN
        without a box of the class.

    Raises:
        BenchError: If `iou` isn't in (0, 1], or `box_iou` doesn't accept the other choices.
    """
    if not 0 < iou <= 1:
        raise BenchError(f"The IoU that a box must reach lies above 0 and up to 1; it is {iou}.")
    # A map without a region is a miss, but a row without a true box has no value.
    best = box_iou(explanation, fraction, connectivity).nan_to_num(0.0)
    missing = torch.tensor([len(boxes) == 0 for boxes in explanation.required_boxes])
    return (best >= iou).double().masked_fill(missing, torch.nan)
