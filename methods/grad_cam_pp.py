"""Grad-CAM++: Chattopadhay et al., WACV 2018, arXiv:1710.11063.

Grad-CAM++: Generalized Gradient-Based Visual Explanations for Deep Convolutional Networks.
"""

from __future__ import annotations

import torch
from torch import Tensor

from axiom_bench.cutting.numerics import axes
from axiom_bench.cutting.trace import Trace


def grad_cam_pp(trace: Trace) -> Tensor:
    """w_k = sum(alpha relu(g_k)), alpha = g_k^2 / (2 g_k^2 + g_k^3 sum(F_k)) -> (B, K, 1, 1).

    alpha is 0 for 0/0. g is the logit's gradient. The paper's factor exp(S), one constant per
    image, is left out, since it overflows float32 from S = 88 on.

    Args:
        trace: The traced batch, with activations F and gradients g, (B, K, H, W) each.

    Returns:
        The weights, (B, K, 1, 1).
    """
    F = trace.activations
    g = trace.gradients
    # alpha is reduced by g^2, since g^3 underflows; the terms with g = 0 are 0.
    denominator = 2 + g * F.sum(axes(F), keepdim=True)
    terms = torch.where(denominator == 0, 0, g.relu() / denominator)
    return terms.sum(axes(F), keepdim=True)
