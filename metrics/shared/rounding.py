"""Maps scaled and rounded for thresholds, maxima and orders.

Rounding keeps noise in the last bits from changing a value.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from axiom_bench.cutting.numerics import axes
from axiom_bench.explanation.explanation import Explanation

MILLION = 1_000_000


def rounded(maps: Tensor) -> Tensor:
    """Return the maps (B, H', W') over their largest magnitude, rounded to 1e-6."""
    return scaled(maps).round(decimals=6)


def millionths(explanation: Explanation) -> np.ndarray:
    """Return the heatmap in millionths of its maximum, rounded and computed once.

    A pixel is above a fraction of the maximum if it is greater than `level(fraction)`.

    Args:
        explanation: The explanation, with its heatmap (B, H', W').

    Returns:
        The millionths, (B, H', W') int32. Values that aren't finite are 0.
    """

    def levels() -> np.ndarray:
        heatmap = explanation.required_heatmap
        rounded = (scaled(heatmap) * MILLION).round_().nan_to_num_(0, 0, 0)
        return np.asarray(rounded.to("cpu", torch.int32))

    return explanation.once("millionths", levels)


def widened(maps: Tensor) -> Tensor:
    """Return float16 and bfloat16 as float32, and any other type unchanged.

    A million is infinite in float16, and NumPy has no bfloat16.

    Args:
        maps: The maps of any shape.

    Returns:
        The maps of the same shape.
    """
    return maps.float() if maps.dtype in (torch.float16, torch.bfloat16) else maps


def level(fraction: float) -> int:
    """Return the greatest number of millionths that isn't above a fraction of the maximum."""
    return math.floor(round(MILLION * fraction, 3))  # 0.15 is 150,000, whatever its last bit says


def scaled(maps: Tensor) -> Tensor:
    """Return the maps (B, H', W') over their largest magnitude; a map of zeros stays zero."""
    maps = widened(maps)
    largest = maps.abs().amax(axes(maps, 1), keepdim=True)
    return maps / torch.where(largest > 0, largest, torch.inf)
