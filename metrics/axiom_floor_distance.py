"""Distance to the axiom floor: the sum of both errors less the lowest reachable sum.

The lowest sum is the one that the best channel totals can reach.
"""

from __future__ import annotations

from torch import Tensor

from axiom_bench.explanation.explanation import Explanation


def axiom_floor_distance(explanation: Explanation) -> Tensor:
    """Compute (sum_k |d_k - m_k| + |S - sum m_k| - |S - sum d_k|) / (sum_k |d_k| + |S|).

    With m_k free, |S - sum d_k| <= |S - sum m_k| + sum |m_k - d_k|. The best pairs of sensitivity
    and conservation error form the segment from (0, |S - sum d_k| / |S|) to (|S - sum d_k| / sum
    |d_k|, 0). The distance is 0 on this segment. It is computed in float64, because it is the
    difference of two sums that nearly cancel on the floor.

    Args:
        explanation: The explanation, with its channel totals (B, K) and its trace.

    Returns:
        The distances, (B,), never negative; 0 is best.
    """
    trace = explanation.required_trace
    S = trace.scores.double()  # (B,)
    d = trace.ablation_drops.double()
    m = explanation.channel_totals.double()  # (B, K)
    sensitivity_error = (d - m).abs().sum(1)
    conservation_error = (S - m.sum(1)).abs()
    floor = (S - d.sum(1)).abs()
    excess = (sensitivity_error + conservation_error - floor).clamp(min=0)
    return excess / (d.abs().sum(1) + S.abs())
