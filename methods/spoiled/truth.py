"""The right explanation, if it is known by construction: the explainers' unspoiled end."""

from __future__ import annotations

import torch
from torch import Tensor

from axiom_bench.cutting.trace import Trace
from axiom_bench.explanation.explanation import Map
from axiom_bench.methods.shared.true_map import true_map


def truth(trace: Trace) -> Tensor | Map:
    """w_k = C_k / F_k, C the true contributions, or the true map -> (B, K, H, W) or (B, H', W').

    The weights are for networks that report their true contributions. Contributions are 0 where
    F = 0, since what isn't there adds nothing, and so are the weights. The map is for other
    networks. It has each part's Shapley value, from interventions, spread evenly over the part's
    area.

    Args:
        trace: The traced batch of a network or images whose truth is known.

    Returns:
        Weights, (B, K, H, W), or a map, (B, H', W').

    Raises:
        BenchError: If the truth isn't known.
    """
    contributions = trace.true_contributions
    if contributions is None:
        return Map(true_map(trace))
    return weights_from_contributions(contributions, trace.activations)


def weights_from_contributions(contributions: Tensor, activations: Tensor) -> Tensor:
    """Return contributions / F, and 0 where F = 0.

    Args:
        contributions: The contributions, (B, K, H, W).
        activations: The activations F, (B, K, H, W).

    Returns:
        The weights, (B, K, H, W).
    """
    is_zero = activations == 0
    quotients = contributions / activations.masked_fill(is_zero, 1)
    return torch.where(is_zero, torch.zeros_like(activations), quotients)
