"""Normalised zeta: Fu et al., Axiom-based Grad-CAM, BMVC 2020, arXiv:2008.02312, Fig. 2(a)."""

from __future__ import annotations

from torch import Tensor

from axiom_bench.cutting.numerics import axes
from axiom_bench.explanation.explanation import Explanation


def zeta(explanation: Explanation) -> Tensor:
    """sum_k |d_k - sum_xy g_k F_k| / sum_k |d_k| -> (B,): error of gradient x activation as drops.
    0: linear.

    A property of the layer, not of a method: XGrad-CAM's and HiResCAM's sensitivity error equals
    it.
    """
    trace = explanation.required_trace
    d = trace.ablation_drops  # (B, K)
    return (d - (trace.gradients * trace.activations).sum(axes(trace.activations))).abs().sum(
        1
    ) / d.abs().sum(1)
