"""The axiom floor of an image: the ends of the segment of best reachable pairs of errors."""

from __future__ import annotations

from torch import Tensor

from axiom_bench.explanation.explanation import Explanation


def axiom_floor(explanation: Explanation) -> dict[str, Tensor]:
    """Compute |S - sum d_k| / sum |d_k| and |S - sum d_k| / |S|, which depend only on the layer.

    With m_k free, |S - sum d_k| <= |S - sum m_k| + sum |m_k - d_k|. The best reachable pairs of
    sensitivity error and conservation error therefore form a segment. It runs from (0, the second
    value) to (the first value, 0).

    Args:
        explanation: The explanation, with its trace.

    Returns:
        axiom_floor_sensitivity and axiom_floor_conservation, each (B,).
    """
    trace = explanation.required_trace
    S = trace.scores.double()  # (B,)
    d = trace.ablation_drops.double()  # (B, K)
    gap = (S - d.sum(1)).abs()
    return {
        "axiom_floor_sensitivity": gap / d.abs().sum(1),
        "axiom_floor_conservation": gap / S.abs(),
    }
