"""Guarded channels: the number of weights that a guarded division sets to zero.

XGrad-CAM and axiomatic Ablation-CAM have this division.
"""

from __future__ import annotations

from torch import Tensor

from axiom_bench.cutting import numerics
from axiom_bench.explanation.explanation import Explanation


def guarded_channels(explanation: Explanation) -> Tensor:
    """Count the channels that aren't all zero but whose sum is negligible against its terms.

    |sum F_k| <= tol * sum |F_k|, where tol is 1e-6 in float32 and 1e-12 in float64. The weights of
    these channels are set to zero. The value is a property of the layer, not of a method, and
    neither direction is better.

    Args:
        explanation: The explanation, with its trace.

    Returns:
        The numbers of channels, (B,).
    """
    return numerics.guarded_channels(explanation.required_trace.activations).sum(1).double()
