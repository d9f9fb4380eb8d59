"""Maps of the true contributions, and an explanation's maps beside them.

A heatmap is positive evidence alone, so it is compared with the truth's heatmap, which the same
ReLU, resize and scaling make. A raw map is signed, and is compared with the truth's signed raw map
at the layer's size.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as functional
from torch import Tensor

from axiom_bench.cutting.numerics import resized
from axiom_bench.explanation.explanation import Explanation, heatmap


def true_contributions(explanation: Explanation) -> Tensor:
    """T, (B, K, H, W) in float64; NaN where the model tells none, whose rows have a status. Raises
    BenchError without a trace.
    """
    trace = explanation.required_trace
    truth = trace.true_contributions
    return (
        torch.full_like(trace.activations, torch.nan, dtype=torch.float64)
        if truth is None
        else truth.double()
    )


def true_raw_map(explanation: Explanation) -> Tensor:
    """sum_k T_k: (B, H, W) in float64, signed."""
    return true_contributions(explanation).sum(1)


def true_heatmap(explanation: Explanation) -> Tensor:
    """The truth's positive evidence, made as the explanation's heatmap is: (B, H', W') in [0, 1],
    in float64.
    """
    size = explanation.required_heatmap.shape[1:]
    return heatmap(true_raw_map(explanation), size, explanation.normalise)


def at_size(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Maps (B, h, w) in float64 at (H, W): means of its cells along a longer side, bilinear along a
    shorter one.
    """
    enlarged = resized(maps.double(), list(map(max, maps.shape[1:], size)))
    pool = getattr(functional, f"adaptive_avg_pool{len(size)}d")
    return pool(enlarged[:, None], tuple(size))[:, 0]
