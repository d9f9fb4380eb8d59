"""Sensitivity error in two parts: of the channels that XGrad-CAM's division guards against, and of
all others.
"""

from __future__ import annotations

from torch import Tensor

from axiom_bench.cutting.numerics import guarded_channels
from axiom_bench.explanation.explanation import Explanation


def sensitivity_error_split(explanation: Explanation) -> dict[str, Tensor]:
    """sum over part of the channels of |d_k - m_k| / sum over all of |d_k| -> (B,) each; they sum
    to sensitivity_error.

    sensitivity_error_guarded: over channels that aren't all zero but whose sum is negligible
    against its terms, where a division by sum F_k gives weight 0 (see the metric guarded_channels).
    sensitivity_error_open: over the rest.
    """
    trace = explanation.required_trace
    d = trace.ablation_drops.double()
    guarded = guarded_channels(trace.activations)  # (B, K)
    share = (d - explanation.channel_totals.double()).abs() / d.abs().sum(1, keepdim=True)
    return {
        "sensitivity_error_guarded": (share * guarded).sum(1),
        "sensitivity_error_open": (share * ~guarded).sum(1),
    }
