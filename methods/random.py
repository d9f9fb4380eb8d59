"""Random channel weights, a baseline."""

from __future__ import annotations

import torch
from torch import Tensor

from axiom_bench.cutting.numerics import over_space
from axiom_bench.cutting.trace import Trace


def random(trace: Trace, seed: int = 0) -> Tensor:
    """w_k from a standard normal distribution, drawn for each image -> (B, K, 1, 1).

    The weights are seeded by the original image and `seed`: neither batch, order, device nor
    perturbation changes them.

    Args:
        trace: The traced batch, with activations (B, K, H, W).
        seed: The seed of the weights.

    Returns:
        The weights, (B, K, 1, 1).
    """
    F = trace.activations
    draws = [
        torch.randn(F.shape[1], generator=generator, dtype=torch.float64)
        for generator in trace.generators(seed)
    ]
    return over_space(torch.stack(draws).to(F, non_blocking=True), F)
