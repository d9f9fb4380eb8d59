"""Uniform weights, a baseline: the sum of the layer's maps, which depends on no class."""

from __future__ import annotations

import torch
from torch import Tensor

from axiom_bench.cutting.trace import Trace


def uniform(trace: Trace) -> Tensor:
    """w_k = 1 -> (B, K, 1, 1)."""
    return torch.ones_like(trace.activations[..., :1, :1])
