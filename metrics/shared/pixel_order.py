"""The order of a map's pixels, for metrics that change or count the highest or lowest of them.

All of them take the same order, so that equal pixels are treated alike on every device.
"""

from __future__ import annotations

import torch
from torch import Tensor

from axiom_bench.cutting.numerics import resized
from axiom_bench.errors import unknown_name
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.shared.rounding import MILLION, scaled, widened

ORDERS = ("highest", "lowest")


def pixel_ranks(explanation: Explanation, first: str = "highest") -> Tensor:
    """Return the rank of each pixel in the map's order, 0 for the first.

    Pixels are ordered by the heatmap. Equal pixels, such as all that ReLU sets to 0, are ordered by
    the signed raw map resized to the image, if the explanation has one. Then they are ordered by
    their position in reading order, for both values of `first`. Both maps are rounded to 1e-6 of
    their largest magnitude.

    Args:
        explanation: The explanation, with its heatmap (B, H', W').
        first: "highest" or "lowest", the pixels that come first.

    Returns:
        The ranks, int64 (B, H', W').

    Raises:
        BenchError: If `first` is neither "highest" nor "lowest".
    """
    if first not in ORDERS:
        raise unknown_name("order of pixels (first)", str(first), ORDERS)
    keys = pixel_keys(explanation)
    return ranks_of(keys.flatten(1), first).view_as(keys)


def ranks_of(keys: Tensor, first: str) -> Tensor:
    """Return the rank of each of n numbers, 0 for the first. Equal numbers keep their order.

    Args:
        keys: The numbers, (B, n).
        first: "highest" or "lowest", the numbers that come first.

    Returns:
        The ranks, int64 (B, n).
    """
    order = keys.sort(dim=1, descending=first == "highest", stable=True).indices
    ranks = torch.arange(order.shape[1], device=order.device).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, ranks)


def pixel_keys(explanation: Explanation) -> Tensor:
    """Return numbers in the order of `pixel_ranks`, the largest for the highest pixel.

    Args:
        explanation: The explanation, with its heatmap (B, H', W').

    Returns:
        The numbers, int64 (B, H', W'). Equal pixels have equal numbers.
    """
    heatmap = explanation.required_heatmap
    keys = _millionths(heatmap) * (2 * MILLION + 1)
    if explanation.raw_map is not None:
        # Its millionths are from -MILLION to MILLION, so they only order equal pixels.
        enlarged = resized(widened(explanation.raw_map), heatmap.shape[1:])
        keys = keys + _millionths(enlarged)
    return keys


def _millionths(maps: Tensor) -> Tensor:
    """Return maps in millionths of their largest magnitude, rounded, and 0 if not finite."""
    return (scaled(maps) * MILLION).round_().nan_to_num_(0, 0, 0).long()
