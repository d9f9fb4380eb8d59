"""Uniform weights, a baseline: the sum of the layer's maps, which depends on no class."""

from __future__ import annotations

from torch import Tensor

from axiom_bench.cutting.numerics import over_space
from axiom_bench.cutting.trace import Trace


def uniform(trace: Trace) -> Tensor:
    """w_k = 1 -> (B, K, 1, 1).

    Args:
        trace: The traced batch, with activations (B, K, H, W).

    Returns:
        The weights, (B, K, 1, 1).
    """
    return over_space(trace.activations.new_ones(trace.activations.shape[:2]), trace.activations)
