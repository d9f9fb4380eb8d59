"""Normalised epsilon: Fu et al., Axiom-based Grad-CAM, BMVC 2020, arXiv:2008.02312, Fig. 2(b)."""

from __future__ import annotations

from torch import Tensor

from axiom_bench.cutting.numerics import axes
from axiom_bench.explanation.explanation import Explanation


def epsilon(explanation: Explanation) -> Tensor:
    """Compute |S - sum_k sum_xy g_k F_k| / |S|.

    In a ReLU network the value is the share of the later layers' bias terms. It is a property of
    the layer, not of a method: the conservation errors of XGrad-CAM and HiResCAM equal it.

    Args:
        explanation: The explanation, with its trace.

    Returns:
        The values, (B,).
    """
    trace = explanation.required_trace
    S = trace.scores  # (B,)
    channel_totals = (trace.gradients * trace.activations).sum(axes(trace.activations))
    return (S - channel_totals.sum(1)).abs() / S.abs()
