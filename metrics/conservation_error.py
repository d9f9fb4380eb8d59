"""Conservation error: Fu et al., Axiom-based Grad-CAM, BMVC 2020, arXiv:2008.02312, the second
axiom.
"""

from __future__ import annotations

from torch import Tensor

from axiom_bench.explanation.explanation import Explanation


def conservation_error(explanation: Explanation) -> Tensor:
    """|S - sum_k m_k| / |S|: how far the map's total is from the explained score S -> (B,)

    m_k = sum_xy M_k, signed, before any post-processing. 0 is best; tails are heavy near S = 0.
    `conservation_error_raw` is the same formula for every method with contributions, in the
    method's own units.
    """
    S = explanation.required_trace.scores  # (B,)
    return (S - explanation.channel_totals.sum(1)).abs() / S.abs()
