"""GT-known localization: Choe et al., CVPR 2020, arXiv:2001.07437; boxes as in Zhou et al., CAM,
CVPR 2016.
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
    """1 where the map of the true class locates it, whatever class is predicted -> (B,), 1 or 0;
    the mean is the rate.

    Located: the box around the largest region above fraction x maximum has an IoU >= `iou` with one
    of the class's boxes. The explained class must be the true one: target=label or each_label. A
    map that isn't finite, or has no positive value, locates nothing: 0; NaN without a box of the
    class. Raises BenchError as `box_iou` does, and for an `iou` not in (0, 1].
    """
    if not 0 < iou <= 1:
        raise BenchError(f"The IoU that a box must reach lies above 0 and up to 1; it is {iou}.")
    best = box_iou(explanation, fraction, connectivity).nan_to_num(0.0)
    missing = torch.tensor([len(boxes) == 0 for boxes in explanation.required_boxes])
    return (best >= iou).double().masked_fill(missing, torch.nan)
