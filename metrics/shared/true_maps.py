"""Maps of the true contributions, and an explanation's maps at the same size.

A heatmap is only positive evidence. It is therefore compared with the truth's heatmap, which the
same ReLU, resize and scaling make. A raw map is signed, and is compared with the truth's signed raw
map at the layer's size.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as functional
from torch import Tensor

from axiom_bench.cutting.numerics import resized
from axiom_bench.explanation.explanation import Explanation, heatmap


def true_contributions(explanation: Explanation) -> Tensor:
    """Return the true contributions T.

    Args:
        explanation: The explanation, with its trace.

    Returns:
        T, (B, K, H, W) in float64. It is NaN if the model doesn't report its contributions; these
        rows have a status.

    Raises:
        BenchError: If the explanation has no trace.
    """
    trace = explanation.required_trace
    truth = trace.true_contributions
    if truth is None:
        return torch.full_like(trace.activations, torch.nan, dtype=torch.float64)
    return truth.double()


def true_raw_map(explanation: Explanation) -> Tensor:
    """Return sum_k T_k: (B, H, W) in float64, signed."""
    return true_contributions(explanation).sum(1)


def true_heatmap(explanation: Explanation) -> Tensor:
    """Return the truth's positive evidence, made in the same way as the explanation's heatmap.

    Args:
        explanation: The explanation, with its heatmap (B, H', W') and its trace.

    Returns:
        The true heatmaps, (B, H', W') in [0, 1], float64.
    """
    size = explanation.required_heatmap.shape[1:]
    return heatmap(true_raw_map(explanation), size, explanation.normalise)


def resize_to(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Return maps at another size.

    Args:
        maps: The maps, (B, h, w).
        size: The new height and width. Along a longer side of the map, each pixel is the mean of
            its cells. Along a shorter one, the map is resized bilinearly.

    Returns:
        The maps at this size, in float64.
    """
    enlarged = resized(maps.double(), list(map(max, maps.shape[1:], size)))
    pool = getattr(functional, f"adaptive_avg_pool{len(size)}d")
    pooled: Tensor = pool(enlarged[:, None], tuple(size))[:, 0]
    return pooled
