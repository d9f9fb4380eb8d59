"""Complexity as entropy: Bhatt et al., IJCAI 2020, arXiv:2005.00631.

The paper is "Evaluating and Aggregating Feature-based Model Explanations". It calls the value
complexity.
"""

from __future__ import annotations

from torch import Tensor

from axiom_bench.explanation.explanation import Explanation


def entropy(explanation: Explanation) -> Tensor:
    """Compute -sum_i p_i ln p_i with p = h / sum(h), where h are the heatmap's pixels.

    The value grows with the image's size, so compare values only at one image size. 0 ln 0 = 0.

    Args:
        explanation: The explanation, with its heatmap h (B, H', W').

    Returns:
        The entropies, (B,) in nats, from 0 for a single pixel to ln(H' W') for a constant map; a
        lower value is simpler. A zero map gives NaN.
    """
    h = explanation.required_heatmap.double().flatten(1)
    p = h / h.sum(1, keepdim=True)
    return -(p * p.clamp(min=1e-300).log()).sum(1)
