"""Grad-CAM element by element, ReLU before the sum: `GradCAMElementWise` of pytorch-grad-cam,
without a paper.
"""

from __future__ import annotations

import torch
from torch import Tensor

from axiom_bench.cutting.trace import Trace


def grad_cam_elementwise(trace: Trace) -> Tensor:
    """w_k(x, y) = g_k(x, y) where g_k F_k > 0, else 0: the contributions are relu(g_k F_k) -> (B,
    K, H, W).
    """
    F, g = trace.activations, trace.gradients
    return torch.where(g * F > 0, g, 0)
