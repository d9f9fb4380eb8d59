"""SSGrad-CAM and SSGrad-CAM++: Yamauchi and Ishikawa, ICIP 2022, and Yamauchi, CVPR workshops 2024.

SSGrad-CAM: Spatial Sensitive Grad-CAM, doi:10.1109/ICIP46576.2022.9897350.
"""

from __future__ import annotations

import torch
from torch import Tensor

from axiom_bench.cutting.numerics import axes
from axiom_bench.cutting.trace import Trace
from axiom_bench.methods.grad_cam import grad_cam


def ss_grad_cam(trace: Trace) -> Tensor:
    """w_k(x, y) = mean(g_k) s_k(x, y), s_k = |g_k| / max |g_k| -> (B, K, H, W).

    s_k is the map's sensitivity to space.

    Args:
        trace: The traced batch, with gradients g (B, K, H, W).

    Returns:
        The weights, (B, K, H, W).
    """
    return grad_cam(trace) * _space_maps(trace.gradients)


def ss_grad_cam_pp(trace: Trace) -> Tensor:
    """w_k(x, y) = sum(alpha relu(g_k)) s_k(x, y), alpha as in Grad-CAM++ -> (B, K, H, W).

    s_k = |g_k| / max |g_k|, and alpha = g_k^2 / (2 g_k^2 + g_k^3 sum(F_k)), 0 for 0/0. This last
    sum is over the positions that the score depends on in map k: those where g_k isn't 0.

    Args:
        trace: The traced batch, with activations F and gradients g, (B, K, H, W) each.

    Returns:
        The weights, (B, K, H, W).
    """
    F = trace.activations
    g = trace.gradients
    # alpha is reduced by g^2, which underflows
    denominator = 2 + g * F.where(g != 0, 0).sum(axes(F), keepdim=True)
    terms = torch.where(denominator == 0, 0, g.relu() / denominator)
    return terms.sum(axes(F), keepdim=True) * _space_maps(g)


def _space_maps(gradients: Tensor) -> Tensor:
    """Return |g_k| / max |g_k|, 0 if g_k is 0 everywhere: (B, K, H, W)."""
    size = gradients.abs()
    largest = size.amax(axes(size), keepdim=True)
    return size / largest.masked_fill(largest == 0, 1)
