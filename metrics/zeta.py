"""Normalised zeta: Fu et al., Axiom-based Grad-CAM, BMVC 2020, arXiv:2008.02312, Fig. 2(a)."""

from __future__ import annotations

from torch import Tensor

from axiom_bench.cutting.numerics import axes
from axiom_bench.explanation.explanation import Explanation


def zeta(explanation: Explanation) -> Tensor:
    """Compute sum_k |d_k - sum_xy g_k F_k| / sum_k |d_k|, the error of gradient x activation.

    0 means that the drops are linear. The value is a property of the layer, not of a method: the
    sensitivity errors of XGrad-CAM and HiResCAM equal it.

    Args:
        explanation: The explanation, with its trace.

    Returns:
        The errors, (B,).
    """
    trace = explanation.required_trace
    d = trace.ablation_drops  # (B, K)
    estimates = (trace.gradients * trace.activations).sum(axes(trace.activations))
    return (d - estimates).abs().sum(1) / d.abs().sum(1)
