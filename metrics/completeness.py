"""Completeness after post-processing: Fu et al.'s second axiom after ReLU, resizing and scaling."""

from __future__ import annotations

from torch import Tensor

from axiom_bench.cutting.numerics import axes
from axiom_bench.explanation.explanation import Explanation


def completeness(explanation: Explanation) -> dict[str, Tensor]:
    """Compute |S - the map's total| / |S| after each step of the post-processing.

    `conservation_error` is the same value before the post-processing. completeness_error_relu is
    that of the raw map R = sum_k M_k after ReLU, |S - sum_xy relu(R)| / |S|.
    completeness_error_heatmap is that of the heatmap, |S - h w mean(heatmap)| / |S|. The heatmap's
    total is its mean times h w, the raw map's number of positions.

    Args:
        explanation: The explanation, with its raw map (B, h, w), heatmap (B, H', W') and trace.

    Returns:
        completeness_error_relu and completeness_error_heatmap, each (B,); 0 is best.
    """
    S = explanation.required_trace.scores.double()  # (B,)
    raw_map = explanation.required_raw_map.double()  # (B, h, w)
    space = axes(raw_map, 1)
    positive_total = raw_map.clamp(min=0).sum(space)
    heatmap_total = explanation.required_heatmap.double().mean(space) * raw_map[0].numel()
    relu_error = (S - positive_total).abs() / S.abs()
    heatmap_error = (S - heatmap_total).abs() / S.abs()
    return {"completeness_error_relu": relu_error, "completeness_error_heatmap": heatmap_error}
