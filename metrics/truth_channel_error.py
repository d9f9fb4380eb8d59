"""Error of the channel totals against those known by construction: this project,
docs/studies/planted.md.
"""

from __future__ import annotations

from torch import Tensor

from axiom_bench.cutting.numerics import axes
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.shared.true_maps import true_contributions


def truth_channel_error(explanation: Explanation) -> Tensor:
    """sum_k |m_k - t_k| / sum_k |t_k|: how far the channel totals are from the true ones -> (B,); 0
    is best.

    m_k = sum_xy M_k, t_k = sum_xy T_k, both signed: sensitivity_error with the truth in the
    ablation drops' place. NaN where all t_k are 0.
    """
    truth = true_contributions(explanation)
    t = truth.sum(axes(truth))
    m = explanation.channel_totals.double()  # (B, K)
    size = t.abs().sum(1)
    return (m - t).abs().sum(1) / size.masked_fill(size == 0, float("nan"))
