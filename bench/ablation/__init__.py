"""Exact ablation: all K drops S - S_k of a batch, for about the work of the head's first layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from bench.ablation.brute_force import brute_force_drops
from bench.ablation.drops import differences_of_scores
from bench.ablation.graph import Values
from bench.precision import arithmetic

if TYPE_CHECKING:
    from bench.cut import Cut

__all__ = ["ablation_drops", "brute_force_drops"]


def ablation_drops(cut: Cut, activations: Tensor, sides: Any, targets: Tensor, values: Values | None = None) -> Tensor:
    """S - S_k for every channel k set to zero: (B, K); exactly 0 for a dead channel (F_k = 0).

    values: those of the head's nodes, where the trace has kept them. Through the head's graph where it can be read, by
    batched head passes else; within `cut.ablation_memory` bytes.
    """
    with torch.inference_mode(False), torch.no_grad(), arithmetic(cut.head_precision, activations.device):
        head = cut.head_graph(activations, sides)
        if head is None:
            return brute_force_drops(cut, activations, sides, targets, cut.ablation_memory)
        kinds = cut.halves.side_kinds
        return differences_of_scores(head, kinds, activations, sides, targets, cut.ablation_memory, values)
