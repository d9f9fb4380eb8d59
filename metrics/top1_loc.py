"""Top-1 localization: ILSVRC, Russakovsky et al. 2015, arXiv:1409.0575.

Boxes are made as in Zhou et al., CAM, CVPR 2016.
"""

from __future__ import annotations

import torch
from torch import Tensor

from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.gt_known_loc import gt_known_loc


def top1_loc(
    explanation: Explanation, fraction: float = 0.2, iou: float = 0.5, connectivity: int = 8
) -> Tensor:
    """Return 1 if the predicted class is the true one and its map locates it, otherwise 0.

    A map locates its class as in `gt_known_loc`. With target=label the explained class is the true
    one, and a wrong prediction is 0. With target=predicted it is the predicted one, and an image of
    other classes is 0. The mean is the rate.

    Args:
        explanation: The explanation, with its heatmap (B, H', W'), trace and the class's boxes.
        fraction: The threshold as a fraction of the maximum; see `box_iou`.
        iou: The smallest IoU of a hit, above 0 and at most 1.
        connectivity: 8 or 4; see `box_iou`.

    Returns:
        1 or 0, (B,); higher is better.

    Raises:
        BenchError: If `gt_known_loc` doesn't accept the choices.
    """
    is_first = rank_of_class(explanation) == 0
    if explanation.wrong_class is not None:
        is_first &= ~explanation.wrong_class
    return gt_known_loc(explanation, fraction, iou, connectivity).where(is_first, 0.0)


def rank_of_class(explanation: Explanation) -> Tensor:
    """Return how many classes come before the explained one by their logit.

    Args:
        explanation: The explanation, with its trace.

    Returns:
        The ranks, integers (B,). Of equal logits, the lower index comes first.
    """
    trace = explanation.required_trace
    logits = trace.logits
    targets = trace.targets[:, None]
    score = logits.gather(1, targets)
    lower_index = torch.arange(logits.shape[1], device=logits.device) < targets
    return ((logits > score) | ((logits == score) & lower_index)).sum(1).cpu()
