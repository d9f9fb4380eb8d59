"""Leakage of one object's map to other objects of its class.

CAMs of detectors are blamed for it: Zhao and Chan, ODAM, ICLR 2023, arXiv:2304.06354.
"""

from __future__ import annotations

from torch import Tensor

from axiom_bench.explanation.explanation import Explanation, required_field
from axiom_bench.metrics.shared.regions import leakage


def leakage_to_class(explanation: Explanation) -> Tensor:
    """Compute sum of h in boxes of other objects of the class / sum of h.

    Pixels in the explained object's box don't count. A pixel lies in a box if its centre does, and
    a pixel in several boxes counts once. The heatmap's ReLU cuts off negative evidence.

    Args:
        explanation: The explanation, with its heatmap h (B, H', W') and the boxes of its class.

    Returns:
        The shares, (B,) in [0, 1]; lower is better.
    """
    return leakage(explanation, required_field(explanation.same_class, "same_class"))
