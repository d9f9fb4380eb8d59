"""Top-1 localization: ILSVRC, Russakovsky et al. 2015, arXiv:1409.0575; boxes as in Zhou et al.,
CAM, CVPR 2016.
"""

from __future__ import annotations

import torch
from torch import Tensor

from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.gt_known_loc import gt_known_loc


def top1_loc(
    explanation: Explanation, fraction: float = 0.2, iou: float = 0.5, connectivity: int = 8
) -> Tensor:
    """1 where the predicted class is the true one and its map locates it -> (B,), 1 or 0; the mean
    is the rate.

    Located: as in `gt_known_loc`. With target=label the explained class is the true one, and a
    wrong prediction is 0; with target=predicted it is the predicted one, and an image of other
    classes is 0. Raises BenchError as `gt_known_loc` does.
    """
    is_first = rank_of_class(explanation) == 0
    if explanation.wrong_class is not None:
        is_first &= ~explanation.wrong_class
    return gt_known_loc(explanation, fraction, iou, connectivity).where(is_first, 0.0)


def rank_of_class(explanation: Explanation) -> Tensor:
    """How many classes come before the explained one by their logit: (B,) int; of equals the lower
    index first.
    """
    trace = explanation.required_trace
    logits = trace.logits
    targets = trace.targets[:, None]
    score = logits.gather(1, targets)
    lower_index = torch.arange(logits.shape[1], device=logits.device) < targets
    return ((logits > score) | ((logits == score) & lower_index)).sum(1).cpu()
