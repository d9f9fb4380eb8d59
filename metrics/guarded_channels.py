"""Guarded channels: how many weights the guarded division of XGrad-CAM and axiomatic Ablation-CAM
sets to zero.
"""

from __future__ import annotations

from torch import Tensor

from axiom_bench.cutting import numerics
from axiom_bench.explanation.explanation import Explanation


def guarded_channels(explanation: Explanation) -> Tensor:
    """The number of channels that aren't all zero but whose sum is negligible against its terms ->
    (B,).

    |sum F_k| <= tol * sum |F_k|, tol 1e-6 in float32 and 1e-12 in float64. A property of the layer, not of a method; it
    counts the channels that those weights leave out; neither direction is better.
    """
    return numerics.guarded_channels(explanation.required_trace.activations).sum(1).double()
