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
    numbers = torch.arange(2**channels)
    joined = (numbers[:, None] >> torch.arange(channels)) & 1 == 1  # (2^K, K)
    subsets = evidence.double()[:, None] * joined.to(evidence.device)  # (B, 2^K, K)
    values = score(subsets.flatten(0, 1)).unflatten(0, subsets.shape[:2])  # (B, 2^K)
    # Of all orders, a share of 1 / (K C(K - 1, n)) has channel k join n certain others first: the subset with k,
    # of size n + 1, gains that weight, the one without k loses it.
    weights = torch.tensor([1 / (channels * comb(channels - 1, n)) for n in range(channels)], dtype=torch.float64)
    others = joined.sum(1, keepdim=True) - joined.long()  # (2^K, K)
    signed = torch.where(joined, weights[others], -weights[others])
    return values @ signed.to(values)
