"""Grad-CAM: Selvaraju et al., ICCV 2017, arXiv:1610.02391.

Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization.
"""

from __future__ import annotations

from torch import Tensor

from axiom_bench.cutting.numerics import axes
from axiom_bench.cutting.trace import Trace


def grad_cam(trace: Trace) -> Tensor:
    """w_k = mean(g_k), the mean over x and y -> (B, K, 1, 1).

    Args:
        trace: The traced batch, with gradients g (B, K, H, W).

    Returns:
        The weights, (B, K, 1, 1).
    """
    return trace.gradients.mean(axes(trace.gradients), keepdim=True)
