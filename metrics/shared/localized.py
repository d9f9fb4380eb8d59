"""Localization with classification, as ILSVRC scores it and CAM's paper makes boxes of maps."""

from __future__ import annotations

import torch
from torch import Tensor

from axiom_bench.errors import BenchError
from axiom_bench.explanation.explanation import Explanation, given
from axiom_bench.metrics.box_iou import box_iou


def box_found(explanation: Explanation, fraction: float, iou: float, connectivity: int) -> Tensor:
    """1 where the box around the largest region above fraction x maximum has an IoU >= `iou` with a box of the class,
    else 0 -> (B,); 0 for a zero map, NaN without a box of the class.

    Raises BenchError for an `iou` not in (0, 1], and as `box_iou` does.
    """
    if not 0 < iou <= 1:
        raise BenchError(f"The IoU that a box must reach lies above 0 and up to 1; it is {iou}.")
    best = box_iou(explanation, fraction, connectivity).nan_to_num(0.0)
    missing = torch.tensor([len(boxes) == 0 for boxes in given(explanation.boxes, "boxes")])
    return (best >= iou).double().masked_fill(missing, torch.nan)


def rank_of_class(explanation: Explanation) -> Tensor:
    """How many classes come before the explained one by their logit: (B,) int; of equals the lower index first."""
    trace = given(explanation.trace, "trace")
    logits, targets = trace.logits, trace.targets[:, None]
    score = logits.gather(1, targets)
    lower_index = torch.arange(logits.shape[1], device=logits.device) < targets
    return ((logits > score) | ((logits == score) & lower_index)).sum(1).cpu()
