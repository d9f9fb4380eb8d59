"""Shares of the score that say nothing of the channels, a baseline: it conserves the score and
explains nothing.
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
    """w_k = S / (K sum(F_k)), K the number of channels that are neither dead nor guarded -> (B, K,
    1, 1).

    shares: "equal"; "activation", in proportion to |sum(F_k)|; "random", uniform numbers by the
    image and `seed`.
    """
    F = trace.activations
    sums, excluded = F.sum(axes(F)), dead_channels(F) | guarded_channels(F)
    if shares == "activation":
        parts = sums.abs()
    elif shares == "random":
        parts = torch.stack(
            [torch.rand(F.shape[1], generator=draw) for draw in trace.generators(seed)]
        ).to(F)
    else:
        parts = torch.ones_like(sums)
    parts = parts.masked_fill(excluded, 0)
    total = parts.sum(1, keepdim=True)
    return guarded_divide(trace.scores[:, None] * parts / total.masked_fill(total == 0, 1), F)
