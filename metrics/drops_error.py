"""The error of ablation drops under a budget.

It bounds what the axioms' values owe to drops that weren't measured by ablation.
"""

from __future__ import annotations

from torch import Tensor

from axiom_bench.explanation.explanation import Explanation


def drops_error(explanation: Explanation) -> dict[str, Tensor]:
    """Bound sum_k |error of d_k| / sum_k |d_k|, and count the estimated drops.

    Without `device.ablation_channels` all drops are exact, and both values are 0. With it, the
    bound holds with 95 % if a sample of the channels shows their variance; see
    `bench/cutting/ablation/drops.py`. Both values are properties of the layer, not of a method.

    Args:
        explanation: The explanation, with its trace.

    Returns:
        drops_error, the bound, and estimated_drops, the number of estimated d_k; each (B,).
    """
    drops = explanation.required_trace.drops
    error = drops.error.double() / drops.values.double().abs().sum(1)
    return {"drops_error": error, "estimated_drops": (~drops.exact).sum(1).double()}
