"""Exact ablation: all K drops S - S_k of a batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from bench.ablation.brute_force import brute_force_drops

if TYPE_CHECKING:
    from bench.cut import Cut

__all__ = ["ablation_drops"]


def ablation_drops(cut: Cut, activations: Tensor, sides: Any, targets: Tensor) -> Tensor:
    """S - S_k for every channel k set to zero: (B, K); exactly 0 for a dead channel (F_k = 0)."""
    with torch.inference_mode(False), torch.no_grad():
        return brute_force_drops(cut, activations, sides, targets, cut.ablation_memory)
