"""Agreement in order with the contributions that are known by construction: this project,
docs/studies/planted.md.
"""

from __future__ import annotations

import torch
from torch import Tensor

from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.shared.rounding import rounded
from axiom_bench.metrics.shared.true_maps import at_size, true_heatmap, true_raw_map


def truth_rank_agreement(explanation: Explanation) -> dict[str, Tensor]:
    """The share of pairs of positions with different truth that the map puts in the right order ->
    two values (B,).

    A pair that the map leaves equal counts a half, so a constant map has 1/2, the truth 1 and its
    negative 0. Over the layer's positions: truth_rank_agreement of the heatmap and the truth's,
    truth_rank_agreement_signed of raw maps. Values are equal where they agree to 1e-6 of the map's
    largest |value|. NaN where the truth is constant.
    """
    truth = true_raw_map(explanation)
    size = truth.shape[1:]
    shown, true_shown = (
        at_size(maps, size) for maps in (explanation.required_heatmap, true_heatmap(explanation))
    )
    raw_map = at_size(explanation.required_raw_map, size)
    return {
        "truth_rank_agreement": concordance(shown, true_shown),
        "truth_rank_agreement_signed": concordance(raw_map, truth),
    }


def concordance(maps: Tensor, truth: Tensor) -> Tensor:
    """(B, H, W) of both -> (B,) in [0, 1]: of all pairs with different truth, those in its order,
    ties as a half.
    """
    rows = zip(rounded(maps).flatten(1), rounded(truth).flatten(1), strict=True)
    return torch.stack([_concordance_of(values, true_values) for values, true_values in rows])


def _concordance_of(values: Tensor, truth: Tensor) -> Tensor:
    order = (truth[:, None] - truth).sign()  # (n, n)
    return (1 + (order * (values[:, None] - values).sign()).sum() / order.abs().sum()) / 2
