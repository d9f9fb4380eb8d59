"""Sensitivity error: Fu et al., BMVC 2020, arXiv:2008.02312, the first axiom.

The paper is "Axiom-based Grad-CAM".
"""

from __future__ import annotations

from torch import Tensor

from axiom_bench.explanation.explanation import Explanation


def sensitivity_error(explanation: Explanation) -> Tensor:
    """Compute sum_k |d_k - m_k| / sum_k |d_k|, how far channel totals are from ablation drops.

    d_k = S - S_k is the exact drop when map k is set to zero. m_k = sum_xy M_k is signed, before
    any post-processing. `sensitivity_error_raw` is the same formula for every method with
    contributions, in the method's own units.

    Args:
        explanation: The explanation, with its channel totals m (B, K) and its trace.

    Returns:
        The errors, (B,); 0 is best.
    """
    d = explanation.required_trace.ablation_drops
    m = explanation.channel_totals  # (B, K)
    return (d - m).abs().sum(1) / d.abs().sum(1)
