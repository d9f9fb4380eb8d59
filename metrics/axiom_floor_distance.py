"""Distance to the axiom floor: the sum of both errors less the lowest sum that any channel totals
can reach.
"""

from __future__ import annotations

from torch import Tensor

from axiom_bench.explanation.explanation import Explanation


def axiom_floor_distance(explanation: Explanation) -> Tensor:
    """(sum_k |d_k - m_k| + |S - sum m_k| - |S - sum d_k|) / (sum_k |d_k| + |S|) -> (B,), never
    negative. 0 is best.

    With m_k free, |S - sum d_k| <= |S - sum m_k| + sum |m_k - d_k|. The best pairs of sensitivity
    and conservation error are the segment from (0, |S - sum d_k| / |S|) to (|S - sum d_k| / sum
    |d_k|, 0), where this is 0. In float64, because it is the difference of two sums that nearly
    cancel on the floor.
    """
    trace = explanation.required_trace
    S = trace.scores.double()  # (B,)
    d = trace.ablation_drops.double()
    m = explanation.channel_totals.double()  # (B, K)
    above = (d - m).abs().sum(1) + (S - m.sum(1)).abs() - (S - d.sum(1)).abs()
    return above.clamp(min=0) / (d.abs().sum(1) + S.abs())
