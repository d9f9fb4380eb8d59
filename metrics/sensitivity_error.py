"""Sensitivity error: Fu et al., Axiom-based Grad-CAM, BMVC 2020, arXiv:2008.02312, the first
axiom.
"""

from __future__ import annotations

from torch import Tensor

from axiom_bench.explanation.explanation import Explanation


def sensitivity_error(explanation: Explanation) -> Tensor:
    """sum_k |d_k - m_k| / sum_k |d_k|: how far the channel totals are from the exact ablation drops
    -> (B,)

    d_k = S - S_k, the drop when map k is set to zero; m_k = sum_xy M_k, signed, before any
    post-processing. 0 is best. `sensitivity_error_raw` is the same formula for every method with
    contributions, in the method's own units.
    """
    d = explanation.required_trace.ablation_drops
    m = explanation.channel_totals  # (B, K)
    return (d - m).abs().sum(1) / d.abs().sum(1)
