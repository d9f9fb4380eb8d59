"""Ablation drops mixed with those of the wrong channels."""

from __future__ import annotations

from torch import Tensor

from axiom_bench.cutting.trace import Trace
from axiom_bench.methods.shared.true_map import (
    check_degree,
    permute_live_totals,
    weights_from_totals,
)


def drops_permuted(trace: Trace, degree: float, seed: int = 0) -> Tensor:
    """w_k = m_k F_k / sum_xy F_k^2, m_k = (1 - degree) d_k + degree d_p(k) -> (B, K, H, W).

    So the contributions of channel k add up to m_k, its ablation drop d_k = S - S_k mixed with
    another channel's. p is a circle over the live channels, drawn for each original image and
    `seed`. The sum of all totals is kept.

    Args:
        trace: The traced batch, with activations F (B, K, H, W) and ablation drops d (B, K).
        degree: The degree of spoiling, from 0 to 1.
        seed: The seed of the circle.

    Returns:
        The weights, (B, K, H, W).

    Raises:
        BenchError: If the degree is outside [0, 1].
    """
    check_degree(degree)
    drops = trace.ablation_drops
    F = trace.activations
    wrong_drops = permute_live_totals(drops, F, trace.generators(seed))
    return weights_from_totals((1 - degree) * drops + degree * wrong_drops, F)
