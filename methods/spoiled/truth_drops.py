"""Contributions that agree with every ablation.

They are the unspoiled end for metrics of contributions per channel.
"""

from __future__ import annotations

from torch import Tensor

from axiom_bench.cutting.trace import Trace
from axiom_bench.methods.shared.true_map import weights_from_totals


def truth_drops(trace: Trace) -> Tensor:
    """w_k = d_k F_k / sum_xy F_k^2, d_k = S - S_k -> (B, K, H, W).

    So the contributions of channel k add up to its ablation drop d_k.

    Args:
        trace: The traced batch, with activations F (B, K, H, W) and ablation drops d (B, K).

    Returns:
        The weights, (B, K, H, W).
    """
    return weights_from_totals(trace.ablation_drops, trace.activations)
