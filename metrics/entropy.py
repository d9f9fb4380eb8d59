"""Complexity as entropy: Bhatt et al., Evaluating and Aggregating Feature-based Model Explanations,
IJCAI 2020.
"""

from __future__ import annotations

from torch import Tensor

from axiom_bench.explanation.explanation import Explanation


def entropy(explanation: Explanation) -> Tensor:
    """-sum_i p_i ln p_i with p = h / sum(h), h the heatmap's pixels -> (B,) in nats, lower is
    simpler.

        From 0, a single pixel, to ln(H' W'), a constant map; 0 ln 0 = 0. It grows with the image's
        size: compare values at one image size only.
    The paper, arXiv:2005.00631, calls it complexity. A zero map gives NaN.
    """
    h = explanation.required_heatmap.double().flatten(1)
    p = h / h.sum(1, keepdim=True)
    return -(p * p.clamp(min=1e-300).log()).sum(1)
