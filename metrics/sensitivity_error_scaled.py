"""Sensitivity error after the best single factor.

It compares methods that aren't on the score's scale.
"""

from __future__ import annotations

import torch
from torch import Tensor

from axiom_bench.explanation.explanation import Explanation


def sensitivity_error_scaled(explanation: Explanation) -> Tensor:
    """Compute min over a >= 0 of sum_k |d_k - a m_k| / sum_k |d_k|.

    sum_k |m_k| |d_k/m_k - a| is convex in a. Its minimum is at the median of d_k/m_k weighted by
    |m_k|, or at 0 if the median is negative. Channels with m_k = 0 add the same |d_k| for every a.

    Args:
        explanation: The explanation, with its channel totals m (B, K) and its trace.

    Returns:
        The errors, (B,) in [0, 1]. a = 0 gives 1; 0 is best.
    """
    d = explanation.required_trace.ablation_drops.double()
    m = explanation.channel_totals.double()  # (B, K)
    ratios = d / m.masked_fill(m == 0, torch.inf)
    a = _weighted_median(ratios, m.abs()).clamp(min=0)
    errors = (d - a[:, None] * m).abs().sum(1)
    return errors / d.abs().sum(1)


def _weighted_median(values: Tensor, weights: Tensor) -> Tensor:
    """Return the smallest value of each row at which the weights up to it reach half their sum."""
    ascending, order = values.sort(dim=1)
    sums = weights.gather(1, order).cumsum(1)
    is_half_reached = sums >= sums[:, -1:] / 2
    middle = is_half_reached.to(torch.uint8).argmax(1, keepdim=True)
    return ascending.gather(1, middle)[:, 0]
