"""Maps scaled and rounded for thresholds, maxima and orders, so that noise in the last bits doesn't
matter.
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
    """The maps over their largest magnitude, rounded to 1e-6: (B, H', W') -> the same."""
    return scaled(maps).round(decimals=6)


def millionths(explanation: Explanation) -> np.ndarray:
    """The heatmap in millionths of its maximum, rounded: (B, H', W') int32, computed once.

    What isn't finite is 0. A pixel is above a fraction of the maximum where it is greater than
    `level(fraction)`.
    """

    def levels() -> np.ndarray:
        heatmap = explanation.required_heatmap
        rounded = (scaled(heatmap) * MILLION).round_().nan_to_num_(0, 0, 0)
        return np.asarray(rounded.to("cpu", torch.int32))

    return explanation.once("millionths", levels)


def widened(maps: Tensor) -> Tensor:
    """float16 and bfloat16 as float32, any other type as it is: a million is infinite in float16,
    and NumPy has no bfloat16.
    """
    return maps.float() if maps.dtype in (torch.float16, torch.bfloat16) else maps


def level(fraction: float) -> int:
    """The greatest number of millionths that isn't above a fraction of the maximum."""
    return math.floor(round(MILLION * fraction, 3))  # 0.15 is 150,000, whatever its last bit says


def scaled(maps: Tensor) -> Tensor:
    """Maps over their largest magnitude: (B, H', W') -> the same; a map of zeros stays zero."""
    maps = widened(maps)
    largest = maps.abs().amax(axes(maps, 1), keepdim=True)
    return maps / torch.where(largest > 0, largest, torch.inf)
