"""Sensitivity error after the best single factor, which compares methods that are not on the
score's scale.
"""

from __future__ import annotations

import torch
from torch import Tensor

from axiom_bench.explanation.explanation import Explanation


def sensitivity_error_scaled(explanation: Explanation) -> Tensor:
    """min over a >= 0 of sum_k |d_k - a m_k| / sum_k |d_k| -> (B,) in [0, 1]; a = 0 gives 1, 0 is
    best.

    sum_k |m_k| |d_k/m_k - a| is convex in a, least at the median of d_k/m_k weighted by |m_k|;
    where that is negative, least over a >= 0 at 0. Channels with m_k = 0 add the same |d_k| for
    every a.
    """
    d = explanation.required_trace.ablation_drops.double()
    m = explanation.channel_totals.double()  # (B, K)
    a = _weighted_median(d / m.masked_fill(m == 0, torch.inf), m.abs()).clamp(min=0)
    return (d - a[:, None] * m).abs().sum(1) / d.abs().sum(1)


def _weighted_median(values: Tensor, weights: Tensor) -> Tensor:
    """The smallest value of each row at which the weights up to it reach half of their sum: (B, K),
    (B, K) -> (B,).
    """
    ascending, order = values.sort(dim=1)
    reached = weights.gather(1, order).cumsum(1)
    middle = (reached >= reached[:, -1:] / 2).to(torch.uint8).argmax(1, keepdim=True)
    return ascending.gather(1, middle)[:, 0]
