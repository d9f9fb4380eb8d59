"""Correlation with the contributions that are known by construction: this project,
docs/studies/planted.md.
"""

from __future__ import annotations

from torch import Tensor

from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.shared.similarity import constant, pearson
from axiom_bench.metrics.shared.true_maps import at_size, true_heatmap, true_raw_map


def truth_correlation(explanation: Explanation) -> dict[str, Tensor]:
    """Pearson's correlation of the heatmap with the truth's, and of the signed raw maps -> two
    values (B,) in [-1, 1].

    truth_correlation: over the image's pixels, of positive evidence alone.
    truth_correlation_signed: over the layer's positions, of the raw map (a larger one averaged in
    each position, a smaller one resized) and sum_k T_k. 1 is best; NaN where a map is constant.
    """
    shown = explanation.required_heatmap
    raw_map = explanation.required_raw_map
    truth = true_raw_map(explanation)
    signed = pearson(at_size(raw_map, truth.shape[1:]), truth)
    return {
        "truth_correlation": pearson(shown.double(), true_heatmap(explanation)).masked_fill(
            constant(shown), float("nan")
        ),
        "truth_correlation_signed": signed.masked_fill(constant(raw_map), float("nan")),
    }
