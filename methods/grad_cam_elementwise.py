"""Grad-CAM element by element, with a ReLU before the sum over channels.

This is `GradCAMElementWise` of pytorch-grad-cam, without a paper.
"""

from __future__ import annotations

import torch
from torch import Tensor

from axiom_bench.cutting.trace import Trace


def grad_cam_elementwise(trace: Trace) -> Tensor:
    """w_k(x, y) = g_k(x, y) if g_k F_k > 0, otherwise 0 -> (B, K, H, W).

    So the contributions are relu(g_k F_k).

    Args:
        trace: The traced batch, with activations F and gradients g, (B, K, H, W) each.

    Returns:
        The weights, (B, K, H, W).
    """
    F = trace.activations
    g = trace.gradients
    return torch.where(g * F > 0, g, 0)
