"""Energy-based pointing game: Wang et al., Score-CAM, CVPRW 2020, arXiv:1910.01279."""

from __future__ import annotations

from torch import Tensor

from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.shared.regions import share_inside


def energy_pointing_game(explanation: Explanation) -> Tensor:
    """Compute sum of h inside the class's boxes / sum of h, the paper's Proportion.

    A pixel lies in a box if its centre does. A pixel in several boxes counts once. The heatmap's
    ReLU cuts off negative evidence. A constant map has the boxes' share of the image.

    Args:
        explanation: The explanation, with its heatmap h (B, H', W') and the class's boxes.

    Returns:
        The shares, (B,) in [0, 1]; higher is better.
    """
    return share_inside(explanation, "boxes")
