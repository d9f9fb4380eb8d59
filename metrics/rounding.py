"""Maps as thresholds and maxima see them: scaled and rounded, so that noise in the last bits decides nothing."""

from __future__ import annotations

import torch
from torch import Tensor


def rounded(heatmap: Tensor) -> Tensor:
    """The map over its maximum, rounded to 1e-6: (B, H', W') -> (B, H', W'). A map without a positive value: all 0."""
    maximum = heatmap.amax((1, 2), keepdim=True)
    shares = heatmap / torch.where(maximum > 0, maximum, torch.inf)
    return shares.round(decimals=6)
