"""Random channel weights, a baseline."""

from __future__ import annotations

import torch
from torch import Tensor

from axiom_bench.cutting.numerics import over_space
from axiom_bench.cutting.trace import Trace


def random(trace: Trace, seed: int = 0) -> Tensor:
    """w_k from a standard normal distribution, drawn for each image -> (B, K, 1, 1).

    Seeded by the original image and `seed`: neither batch, order, device nor perturbation changes
    the weights.
    """
    channels = trace.activations.shape[1]
    draws = [
        torch.randn(channels, generator=draw, dtype=torch.float64)
        for draw in trace.generators(seed)
    ]
    return over_space(
        torch.stack(draws).to(trace.activations, non_blocking=True), trace.activations
    )
