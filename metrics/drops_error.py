"""The error of ablation drops under a budget: what the axioms' values owe to drops that nobody
ablated.
"""

from __future__ import annotations

from torch import Tensor

from axiom_bench.explanation.explanation import Explanation


def drops_error(explanation: Explanation) -> dict[str, Tensor]:
    """{drops_error: at most sum_k |error of d_k| / sum_k |d_k|, estimated_drops: how many d_k} ->
    (B,) each.

    Without `device.ablation_channels` all drops are exact and both are 0. With it, the bound is one
    of 95 % where a sample of the channels shows their variance; see
    `bench/cutting/ablation/drops.py`. A property of the layer, not of a method.
    """
    drops = explanation.required_trace.drops
    error = drops.error.double() / drops.values.double().abs().sum(1)
    return {"drops_error": error, "estimated_drops": (~drops.exact).sum(1).double()}
