"""Ablation by batched head passes: exact for any head, and what the shortcuts are checked against."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from axiom_bench.cutting.division import dead_channels
from axiom_bench.cutting.sides import SideKind, select

HeadPass = Callable[[Tensor, Any], Tensor]  # activations (R, K, H, W) and their side values -> logits (R, C)

# A pass holds several tensors of the image's or the maps' size at once; this many is generous for the usual networks.
TENSORS_IN_A_PASS = 32


def brute_force_drops(
    head: HeadPass, kinds: list[SideKind], activations: Tensor, sides: Any, targets: Tensor, memory: int
) -> Tensor:
    """S - S_k by setting each live map to zero in turn: (B, K). Rows are batched as `memory` (bytes) allows."""
    batch, channels = activations.shape[:2]
    drops = activations.new_zeros(batch, channels)
    scores = head(activations, sides).gather(1, targets[:, None])[:, 0]
    image, channel = (~dead_channels(activations)).nonzero(as_tuple=True)
    row_bytes = TENSORS_IN_A_PASS * activations[0].numel() * activations.element_size()
    for rows, ablated in zip(*(index.split(max(1, memory // row_bytes)) for index in (image, channel)), strict=True):
        maps = activations[rows]
        maps[torch.arange(len(rows), device=maps.device), ablated] = 0
        logits = head(maps, select(sides, kinds, rows, batch))
        drops[rows, ablated] = scores[rows] - logits.gather(1, targets[rows, None])[:, 0]
    return drops
