"""Normalised epsilon: Fu et al., Axiom-based Grad-CAM, BMVC 2020, arXiv:2008.02312, Fig. 2(b)."""

from __future__ import annotations

from torch import Tensor

from axiom_bench.cutting.numerics import axes
from axiom_bench.explanation.explanation import Explanation


def epsilon(explanation: Explanation) -> Tensor:
    """|S - sum_k sum_xy g_k F_k| / |S| -> (B,): in a ReLU network, the share of the later layers'
    bias terms.

    A property of the layer, not of a method: XGrad-CAM's and HiResCAM's conservation error equals
    it.
    """
    trace = explanation.required_trace
    S = trace.scores  # (B,)
    return (
        S - (trace.gradients * trace.activations).sum(axes(trace.activations)).sum(1)
    ).abs() / S.abs()
