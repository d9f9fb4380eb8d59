"""Energy-based pointing game: Wang et al., Score-CAM, CVPR Workshops 2020, arXiv:1910.01279."""

from __future__ import annotations

from torch import Tensor

from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.shared.regions import share_inside


def energy_pointing_game(explanation: Explanation) -> Tensor:
    """sum of h inside the class's boxes / sum of h -> (B,) in [0, 1], the paper's Proportion;
    higher is better.

    A pixel lies in a box where its centre does; one in several boxes counts once. Negative evidence
    is cut off by the heatmap's ReLU. A constant map has the boxes' share of the image.
    """
    return share_inside(explanation, "boxes")
