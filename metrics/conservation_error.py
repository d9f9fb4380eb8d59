"""Conservation error: Fu et al., BMVC 2020, arXiv:2008.02312, the second axiom.

The paper is "Axiom-based Grad-CAM".
"""

from __future__ import annotations

from torch import Tensor

from axiom_bench.explanation.explanation import Explanation


def conservation_error(explanation: Explanation) -> Tensor:
    """Compute |S - sum_k m_k| / |S|, how far the map's total is from the explained score S.

    m_k = sum_xy M_k is signed, before any post-processing. The distribution has heavy tails near S
    = 0. `conservation_error_raw` is the same formula for every method with contributions, in the
    method's own units.

    Args:
        explanation: The explanation, with its channel totals m (B, K) and its trace.

    Returns:
        The errors, (B,); 0 is best.
    """
    S = explanation.required_trace.scores  # (B,)
    return (S - explanation.channel_totals.sum(1)).abs() / S.abs()
