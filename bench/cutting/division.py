"""The one guarded division: public XGrad-CAMs add an epsilon each to a sum that may be negative; this adds none."""

from __future__ import annotations

import torch
from torch import Tensor

XY = (-2, -1)
TOLERANCE = {torch.float64: 1e-12}
DEFAULT_TOLERANCE = 1e-6


def dead_channels(activations: Tensor) -> Tensor:
    """Channels that are zero everywhere: (B, K, H, W) -> bool (B, K). Their ablation changes nothing."""
    return activations.abs().amax(XY) == 0


def guarded_channels(activations: Tensor) -> Tensor:
    """Channels that aren't all zero but whose values cancel: |sum F_k| <= tol * sum |F_k|. (B, K, H, W) -> bool (B, K).

    tol is 1e-6, in float64 1e-12: a few times the rounding of the sum itself.
    """
    tolerance = TOLERANCE.get(activations.dtype, DEFAULT_TOLERANCE)
    vanishing = activations.sum(XY).abs() <= tolerance * activations.abs().sum(XY)
    return vanishing & ~dead_channels(activations)


def guarded_divide(totals: Tensor, activations: Tensor) -> Tensor:
    """totals_k / sum_xy F_k, and 0 where channel k is dead or guarded.

    totals: (B, K). activations: (B, K, H, W). Returns weights (B, K, 1, 1).
    """
    sums = activations.sum(XY)
    excluded = guarded_channels(activations) | dead_channels(activations)
    weights = torch.where(excluded, torch.zeros_like(sums), totals / sums.masked_fill(excluded, 1))
    return weights[..., None, None]
