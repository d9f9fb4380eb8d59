"""Error of the channel totals against those known by construction.

The metric is this project's; see docs/studies/planted.md.
"""

from __future__ import annotations

from torch import Tensor

from axiom_bench.cutting.numerics import axes
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.shared.true_maps import true_contributions


def truth_channel_error(explanation: Explanation) -> Tensor:
    """Compute sum_k |m_k - t_k| / sum_k |t_k|, how far channel totals are from the true ones.

    m_k = sum_xy M_k and t_k = sum_xy T_k, both signed. The value is sensitivity_error with the
    truth in place of the ablation drops.

    Args:
        explanation: The explanation, with its channel totals m (B, K) and a trace with the truth.

    Returns:
        The errors, (B,); 0 is best. They are NaN if all t_k are 0.
    """
    truth = true_contributions(explanation)
    t = truth.sum(axes(truth))
    m = explanation.channel_totals.double()  # (B, K)
    size = t.abs().sum(1)
    return (m - t).abs().sum(1) / size.masked_fill(size == 0, float("nan"))
