"""Shares of the score that don't depend on the channels' effects, a baseline.

It conserves the score and explains nothing.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from axiom_bench.cutting.numerics import axes, dead_channels, guarded_channels, guarded_divide
from axiom_bench.cutting.trace import Trace


def equal_shares(
    trace: Trace, shares: Literal["equal", "activation", "random"] = "equal", seed: int = 0
) -> Tensor:
    """w_k = S / (K sum(F_k)), K the number of usable channels -> (B, K, 1, 1).

    A channel is usable if it is neither dead nor guarded.

    Args:
        trace: The traced batch, with scores S (B,) and activations F (B, K, H, W).
        shares: "equal"; "activation", in proportion to |sum(F_k)|; or "random", in proportion to
            uniform random numbers, seeded by the original image and `seed`.
        seed: The seed of the random shares.

    Returns:
        The weights, (B, K, 1, 1).
    """
    F = trace.activations
    sums = F.sum(axes(F))
    if shares == "activation":
        parts = sums.abs()
    elif shares == "random":
        draws = [
            torch.rand(F.shape[1], generator=generator) for generator in trace.generators(seed)
        ]
        parts = torch.stack(draws).to(F)
    else:
        parts = torch.ones_like(sums)
    # The division gives these channels weight 0, so a share of theirs would be lost.
    parts = parts.masked_fill(dead_channels(F) | guarded_channels(F), 0)
    total = parts.sum(1, keepdim=True)
    return guarded_divide(trace.scores[:, None] * parts / total.masked_fill(total == 0, 1), F)
