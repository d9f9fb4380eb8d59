"""Sensitivity error in two parts: of guarded channels, and of all others.

Guarded channels are those that XGrad-CAM's division guards against.
"""

from __future__ import annotations

from torch import Tensor

from axiom_bench.cutting.numerics import guarded_channels
from axiom_bench.explanation.explanation import Explanation


def sensitivity_error_split(explanation: Explanation) -> dict[str, Tensor]:
    """Compute sum of |d_k - m_k| over a part of the channels / sum over all of |d_k|.

    sensitivity_error_guarded is over channels that aren't all zero but whose sum is negligible
    against its terms. A division by sum F_k gives these channels weight 0; see the metric
    guarded_channels. sensitivity_error_open is over the other channels. The two values add up to
    sensitivity_error.

    Args:
        explanation: The explanation, with its channel totals m (B, K) and its trace.

    Returns:
        sensitivity_error_guarded and sensitivity_error_open, each (B,); 0 is best.
    """
    trace = explanation.required_trace
    d = trace.ablation_drops.double()
    guarded = guarded_channels(trace.activations)  # (B, K)
    errors = (d - explanation.channel_totals.double()).abs()
    share = errors / d.abs().sum(1, keepdim=True)
    return {
        "sensitivity_error_guarded": (share * guarded).sum(1),
        "sensitivity_error_open": (share * ~guarded).sum(1),
    }
