"""The order of a map's pixels, for metrics that change or count the highest or lowest of them."""

from __future__ import annotations

import torch
from torch import Tensor

from axiom_bench.cutting.numerics import resized
from axiom_bench.errors import unknown
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.shared.rounding import MILLION, scaled, widened

ORDERS = ("highest", "lowest")


def pixel_ranks(explanation: Explanation, first: str = "highest") -> Tensor:
    """The rank of each pixel in the map's order, 0 for the first: int64 (B, H', W').

    Pixels are ordered by the heatmap. Equal ones, such as all that ReLU sets to 0, by the signed
    raw map resized to the image, where the explanation has one. Then by their position in reading
    order, for both values of `first`. Both maps are rounded to 1e-6 of their largest magnitude.
    Raises BenchError for another `first` than "highest" or "lowest".
    """
    if first not in ORDERS:
        raise unknown("order of pixels (first)", str(first), ORDERS)
    keys = pixel_keys(explanation)
    return ranks_of(keys.flatten(1), first).view_as(keys)


def ranks_of(keys: Tensor, first: str) -> Tensor:
    """The rank of each of n numbers, 0 for the first, equal ones by their position: (B, n) -> int64
    (B, n).

    first: "highest" or "lowest" numbers.
    """
    order = keys.sort(dim=1, descending=first == "highest", stable=True).indices
    ranks = torch.arange(order.shape[1], device=order.device).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, ranks)


def pixel_keys(explanation: Explanation) -> Tensor:
    """Numbers in the order of `pixel_ranks`, the highest pixel's the largest; equal pixels have
    equal ones: int64 (B, H', W').
    """
    heatmap = explanation.required_heatmap
    keys = _millionths(heatmap) * (2 * MILLION + 1)
    if explanation.raw_map is not None:
        keys = keys + _millionths(resized(widened(explanation.raw_map), heatmap.shape[1:]))
    return keys


def _millionths(maps: Tensor) -> Tensor:
    """Maps (B, H', W') in millionths of their largest magnitude, rounded: int64; what isn't finite
    is 0.
    """
    return (scaled(maps) * MILLION).round_().nan_to_num_(0, 0, 0).long()
