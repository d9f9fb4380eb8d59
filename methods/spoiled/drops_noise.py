"""Ablation drops mixed with noise."""

from __future__ import annotations

import torch
from torch import Tensor

from axiom_bench.cutting.numerics import dead_channels
from axiom_bench.cutting.trace import Trace
from axiom_bench.methods.shared.true_map import check_degree, mix_with_truth, weights_from_totals


def drops_noise(trace: Trace, degree: float, seed: int = 0) -> Tensor:
    """w_k = m_k F_k / sum_xy F_k^2, m_k = (1 - degree) d_k + degree n_k -> (B, K, H, W).

    So the contributions of channel k add up to m_k, its ablation drop d_k = S - S_k mixed with
    normal noise n that has the norm of d. Only live channels have noise, seeded by the original
    image and `seed`.

    Args:
        trace: The traced batch, with activations F (B, K, H, W) and ablation drops d (B, K).
        degree: The degree of spoiling, from 0 to 1.
        seed: The seed of the noise.

    Returns:
        The weights, (B, K, H, W).

    Raises:
        BenchError: If the degree is outside [0, 1].
    """
    check_degree(degree)
    drops = trace.ablation_drops
    F = trace.activations
    draws = [
        torch.randn(drops.shape[1], generator=generator, dtype=torch.float64)
        for generator in trace.generators(seed)
    ]
    # A dead channel can't contribute, so it gets no noise either.
    noise = torch.stack(draws).to(drops).masked_fill(dead_channels(F), 0)
    return weights_from_totals(mix_with_truth(drops, noise, degree), F)
