"""Shapley values of a layer's channels, exact by enumeration of all subsets of the channels."""

from __future__ import annotations

from collections.abc import Callable
from math import comb

import torch
from torch import Tensor

from axiom_bench.errors import BenchError

MAX_CHANNELS = 12  # 4,096 subsets


def channel_shapley(score: Callable[[Tensor], Tensor], evidence: Tensor) -> Tensor:
    """phi_k = mean over all orders of the channels of what the score gains where channel k joins: (B, K) in float64.

    score: evidence (N, K) in float64 -> scores (N,). evidence: (B, K); a channel that hasn't joined has evidence 0.
    Shapley, A value for n-person games, 1953: sum_k phi_k = S(all) - S(none). Raises BenchError for over 12 channels.
    """
    channels = evidence.shape[1]
    if channels > MAX_CHANNELS:
        raise BenchError(
            f"Shapley values of {channels} channels take 2^{channels} subsets; give at most {MAX_CHANNELS}."
        )
    joined = (torch.arange(2**channels)[:, None] >> torch.arange(channels)) & 1 == 1  # (2^K, K)
    subsets = evidence.double()[:, None] * joined.to(evidence.device)  # (B, 2^K, K)
    values = score(subsets.flatten(0, 1)).unflatten(0, subsets.shape[:2])  # (B, 2^K)
    # Channel k joins just these n others, after them and before the rest, in a share of 1 / (K C(K - 1, n)) of orders.
    shares = torch.tensor([1 / (channels * comb(channels - 1, n)) for n in range(channels)], dtype=torch.float64)
    totals = []
    for channel in range(channels):
        others = torch.nonzero(~joined[:, channel])[:, 0]
        gains = values[:, others + 2**channel] - values[:, others]  # exactly 0 for a channel that never matters
        totals.append(gains @ shares[joined[others].sum(1)].to(values))
    return torch.stack(totals, 1)
