"""The axiom floor of an image: the ends of the segment of best reachable pairs of errors."""

from __future__ import annotations

from torch import Tensor

from axiom_bench.explanation.explanation import Explanation


def axiom_floor(explanation: Explanation) -> dict[str, Tensor]:
    """{sensitivity: |S - sum d_k| / sum |d_k|, conservation: |S - sum d_k| / |S|} -> (B,) each, of
    the layer alone.

    With m_k free, the best reachable pairs (sensitivity, conservation error) are the segment from
    (0, the second) to (the first, 0): |S - sum d_k| <= |S - sum m_k| + sum |m_k - d_k|.
    """
    trace = explanation.required_trace
    S = trace.scores.double()  # (B,)
    d = trace.ablation_drops.double()  # (B, K)
    gap = (S - d.sum(1)).abs()
    return {
        "axiom_floor_sensitivity": gap / d.abs().sum(1),
        "axiom_floor_conservation": gap / S.abs(),
    }
