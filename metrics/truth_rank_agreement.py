"""Agreement in order with the contributions that are known by construction.

The metric is this project's; see docs/studies/planted.md.
"""

from __future__ import annotations

import torch
from torch import Tensor

from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.shared.rounding import rounded
from axiom_bench.metrics.shared.true_maps import resize_to, true_heatmap, true_raw_map


def truth_rank_agreement(explanation: Explanation) -> dict[str, Tensor]:
    """Compute the share of pairs with different truth that the map puts in the right order.

    A pair consists of two of the layer's positions. A pair that the map leaves equal counts a half.
    A constant map therefore has 1/2, the truth 1 and its negative 0. truth_rank_agreement compares
    the heatmap with the truth's, truth_rank_agreement_signed the raw maps. Values are equal if they
    agree to 1e-6 of the map's largest |value|.

    Args:
        explanation: The explanation, with its maps and a trace with the truth.

    Returns:
        truth_rank_agreement and truth_rank_agreement_signed, each (B,) in [0, 1]; higher is better.
        They are NaN if the truth is constant.
    """
    truth = true_raw_map(explanation)
    size = truth.shape[1:]
    shown = resize_to(explanation.required_heatmap, size)
    true_shown = resize_to(true_heatmap(explanation), size)
    raw_map = resize_to(explanation.required_raw_map, size)
    return {
        "truth_rank_agreement": concordance(shown, true_shown),
        "truth_rank_agreement_signed": concordance(raw_map, truth),
    }


def concordance(maps: Tensor, truth: Tensor) -> Tensor:
    """Compute the share of pairs with different truth that are in the truth's order.

    Args:
        maps: The maps, (B, H, W).
        truth: The true maps, (B, H, W).

    Returns:
        The shares, (B,) in [0, 1]; equal values count a half.
    """
    rows = zip(rounded(maps).flatten(1), rounded(truth).flatten(1), strict=True)
    return torch.stack([_concordance_of(values, true_values) for values, true_values in rows])


def _concordance_of(values: Tensor, truth: Tensor) -> Tensor:
    """Compute the concordance of one image's values with the true values, (n,) each."""
    order = (truth[:, None] - truth).sign()  # (n, n)
    agreement = (order * (values[:, None] - values).sign()).sum()
    return (1 + agreement / order.abs().sum()) / 2
