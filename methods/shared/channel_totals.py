"""Contributions with totals per channel that are set, and totals that go to the wrong channels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from axiom_bench.cutting.division import XY, dead_channels


def weights_of_totals(totals: Tensor, activations: Tensor) -> Tensor:
    """Weights w = m_k F_k / sum_xy F_k^2, whose contributions w F add up to m_k in each channel.

    totals: m, (B, K). activations: F, (B, K, H, W). Returns (B, K, H, W), 0 in dead channels. It needs no guard where
    the values of a channel cancel, as a division by sum_xy F_k would.
    """
    energy = activations.square().sum(XY, keepdim=True)
    return activations * (totals[..., None, None] / torch.where(energy == 0, torch.ones_like(energy), energy))


def permuted(totals: Tensor, activations: Tensor, draws: Sequence[torch.Generator]) -> Tensor:
    """Each live channel's total handed to another one, all in one drawn circle: (B, K) -> (B, K).

    Dead channels keep theirs, and so does a channel that is the only live one. draws: a generator for each image.
    """
    rows = []
    for row, dead, draw in zip(totals, dead_channels(activations), draws, strict=True):
        live = (~dead).nonzero()[:, 0]
        circle = live[torch.randperm(len(live), generator=draw).to(live.device)]
        rows.append(row.index_copy(0, circle, row[circle.roll(1)]))
    return torch.stack(rows)
