"""XGrad-CAM: Fu et al., Axiom-based Grad-CAM, BMVC 2020, arXiv:2008.02312."""

from __future__ import annotations

from torch import Tensor

from axiom_bench.cutting.numerics import axes, guarded_divide
from axiom_bench.cutting.trace import Trace


def xgrad_cam(trace: Trace) -> Tensor:
    """w_k = sum(g_k F_k) / sum(F_k), sums over x and y -> (B, K, 1, 1).

    Args:
        trace: The traced batch, with activations F and gradients g, (B, K, H, W) each.

    Returns:
        The weights, (B, K, 1, 1).
    """
    F = trace.activations
    g = trace.gradients
    return guarded_divide((g * F).sum(axes(F)), F)
