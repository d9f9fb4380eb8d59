"""The right explanation, where it is known by construction: the unspoiled end of the spoiled
explainers.
"""

from __future__ import annotations

import torch
from torch import Tensor

from axiom_bench.cutting.trace import Trace
from axiom_bench.explanation.explanation import Map
from axiom_bench.methods.shared.true_map import true_map


def truth(trace: Trace) -> Tensor | Map:
    """w = true contribution / F of a network that tells them, 0 where F = 0, (B, K, H, W); else
    each part's Shapley value over its area, from interventions -> (B, H', W').

    The true contributions are 0 where F = 0: what isn't there adds nothing.
    Raises BenchError where neither is known.
    """
    contributions = trace.true_contributions
    return (
        Map(true_map(trace))
        if contributions is None
        else weights_of(contributions, trace.activations)
    )


def weights_of(contributions: Tensor, activations: Tensor) -> Tensor:
    """Contributions / F, and 0 where F = 0: (B, K, H, W)."""
    silent = activations == 0
    return torch.where(
        silent, torch.zeros_like(activations), contributions / activations.masked_fill(silent, 1)
    )
