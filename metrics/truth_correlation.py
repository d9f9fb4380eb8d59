"""Correlation with the contributions that are known by construction.

The metric is this project's; see docs/studies/planted.md.
"""

from __future__ import annotations

from torch import Tensor

from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.shared.similarity import has_constant_values, pearson
from axiom_bench.metrics.shared.true_maps import resize_to, true_heatmap, true_raw_map


def truth_correlation(explanation: Explanation) -> dict[str, Tensor]:
    """Correlate the heatmap with the truth's heatmap, and the signed raw maps.

    The value is Pearson's correlation. truth_correlation is over the image's pixels, and compares
    only positive evidence. truth_correlation_signed is over the layer's positions, and compares the
    raw map with sum_k T_k. A larger raw map is averaged in each position, a smaller one resized.

    Args:
        explanation: The explanation, with its maps and a trace with the truth.

    Returns:
        truth_correlation and truth_correlation_signed, each (B,) in [-1, 1]; 1 is best. They are
        NaN if a map is constant.
    """
    shown = explanation.required_heatmap
    raw_map = explanation.required_raw_map
    truth = true_raw_map(explanation)
    positive = pearson(shown.double(), true_heatmap(explanation))
    signed = pearson(resize_to(raw_map, truth.shape[1:]), truth)
    positive = positive.masked_fill(has_constant_values(shown), float("nan"))
    signed = signed.masked_fill(has_constant_values(raw_map), float("nan"))
    return {"truth_correlation": positive, "truth_correlation_signed": signed}
