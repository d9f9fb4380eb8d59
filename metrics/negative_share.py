"""Negative share: the part of a raw map that ReLU removes."""

from __future__ import annotations

from torch import Tensor

from axiom_bench.cutting.numerics import axes
from axiom_bench.explanation.explanation import Explanation


def negative_share(explanation: Explanation) -> Tensor:
    """Compute sum_xy max(0, -R) / sum_xy |R| of the raw map R.

    The value is the share of evidence against the class, which no heatmap shows. It has no unit, so
    it compares all methods. Neither direction is better.

    Args:
        explanation: The explanation, with its raw map R (B, h, w).

    Returns:
        The shares, (B,) in [0, 1]. They are NaN if R is zero everywhere.
    """
    raw_map = explanation.required_raw_map.double()  # (B, h, w)
    space = axes(raw_map, 1)
    return (-raw_map).clamp(min=0).sum(space) / raw_map.abs().sum(space)
