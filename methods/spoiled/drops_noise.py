"""Ablation drops mixed with noise."""

from __future__ import annotations

import torch
from torch import Tensor

from axiom_bench.cutting.numerics import dead_channels
from axiom_bench.cutting.trace import Trace
from axiom_bench.methods.shared.true_map import checked, mixed, weights_of_totals


def drops_noise(trace: Trace, degree: float, seed: int = 0) -> Tensor:
    """Contributions whose totals are (1 - degree) d_k + degree n_k, n normal noise with the norm of
    d -> (B, K, H, W).

    d_k = S - S_k. The noise is that of live channels alone, seeded by the original image and
    `seed`. Raises BenchError for a degree outside of [0, 1].
    """
    checked(degree)
    drops, F = trace.ablation_drops, trace.activations
    draws = trace.generators(seed)
    noise = torch.stack(
        [torch.randn(drops.shape[1], generator=draw, dtype=torch.float64) for draw in draws]
    )
    noise = noise.to(drops).masked_fill(dead_channels(F), 0)
    return weights_of_totals(mixed(drops, noise, degree), F)
