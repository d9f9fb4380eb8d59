"""SSGrad-CAM: Yamauchi and Ishikawa, Spatial Sensitive Grad-CAM, ICIP 2022,
doi:10.1109/ICIP46576.2022.9897350; SSGrad-CAM++: Yamauchi, CVPR workshops 2024.
"""

from __future__ import annotations

import torch
from torch import Tensor

from axiom_bench.cutting.numerics import axes
from axiom_bench.cutting.trace import Trace
from axiom_bench.methods.grad_cam import grad_cam


def ss_grad_cam(trace: Trace) -> Tensor:
    """w_k(x, y) = mean(g_k) s_k(x, y), s_k = |g_k| / max |g_k|, the map's sensitivity to space ->
    (B, K, H, W).
    """
    return grad_cam(trace) * _space_maps(trace.gradients)


def ss_grad_cam_pp(trace: Trace) -> Tensor:
    """w_k(x, y) = sum(alpha relu(g_k)) s_k(x, y), alpha as in Grad-CAM++, s_k = |g_k| / max |g_k|
    -> (B, K, H, W).

    alpha = g_k^2 / (2 g_k^2 + g_k^3 sum(F_k)), 0 for 0/0, where the sum is over the positions that
    the score depends on in map k: those where g_k isn't 0.
    """
    F, g = trace.activations, trace.gradients
    denominator = 2 + g * F.where(g != 0, 0).sum(
        axes(F), keepdim=True
    )  # alpha is reduced by g^2, which underflows
    terms = torch.where(denominator == 0, 0, g.relu() / denominator)
    return terms.sum(axes(F), keepdim=True) * _space_maps(g)


def _space_maps(gradients: Tensor) -> Tensor:
    """|g_k| / max |g_k|, 0 where g_k is 0 everywhere: (B, K, H, W)."""
    size = gradients.abs()
    largest = size.amax(axes(size), keepdim=True)
    return size / largest.masked_fill(largest == 0, 1)
