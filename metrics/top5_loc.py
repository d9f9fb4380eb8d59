"""Top-5 localization: ILSVRC, Russakovsky et al. 2015, arXiv:1409.0575; boxes as in Zhou et al.,
CAM, CVPR 2016.
"""

from __future__ import annotations

from torch import Tensor

from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.gt_known_loc import gt_known_loc
from axiom_bench.metrics.top1_loc import rank_of_class


def top5_loc(
    explanation: Explanation, fraction: float = 0.2, iou: float = 0.5, connectivity: int = 8
) -> Tensor:
    """1 where the true class is among the five most probable and its map locates it -> (B,), 1 or
    0.

    Each of five guesses is a class with the box of its own map, so only that of the true class can
    be right, and its map is the only one needed: target=label or each_label. Located: as in
    `gt_known_loc`. Raises BenchError as `gt_known_loc` does.
    """
    return gt_known_loc(explanation, fraction, iou, connectivity).where(
        rank_of_class(explanation) < 5, 0.0
    )
