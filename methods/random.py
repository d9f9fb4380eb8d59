"""Random channel weights, a baseline: what any weighting of this layer would show."""

from __future__ import annotations

import torch
from torch import Tensor

from axiom_bench.cutting.seeding import generators
from axiom_bench.cutting.trace import Trace


def random(trace: Trace, seed: int = 0) -> Tensor:
    """w_k from a standard normal, drawn anew for each image -> (B, K, 1, 1).

    The image's pixels and `seed` decide the draw: neither batch, order nor device changes it.
    """
    channels = trace.activations.shape[1]
    draws = [torch.randn(channels, generator=one, dtype=torch.float64) for one in generators(trace.images, seed)]
    return torch.stack(draws).to(trace.activations)[..., None, None]
