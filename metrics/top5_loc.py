"""Top-5 localization: ILSVRC, Russakovsky et al. 2015, arXiv:1409.0575.

Boxes are made as in Zhou et al., CAM, CVPR 2016.
"""

from __future__ import annotations

from torch import Tensor

from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.gt_known_loc import gt_known_loc
from axiom_bench.metrics.top1_loc import rank_of_class


def top5_loc(
    explanation: Explanation, fraction: float = 0.2, iou: float = 0.5, connectivity: int = 8
) -> Tensor:
    """Return 1 if the true class is in the top five and its map locates it, otherwise 0.

    Each of five guesses is a class with the box of its own map. Only the guess of the true class
    can be right, so its map is the only one needed: target=label or each_label. A map locates its
    class as in `gt_known_loc`.

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
    is_located = gt_known_loc(explanation, fraction, iou, connectivity)
    return is_located.where(rank_of_class(explanation) < 5, 0.0)
