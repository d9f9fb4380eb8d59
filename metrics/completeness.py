"""Completeness after post-processing: Fu et al.'s second axiom after ReLU, resizing and scaling."""

from __future__ import annotations

from torch import Tensor

from axiom_bench.cutting.numerics import axes
from axiom_bench.explanation.explanation import Explanation


def completeness(explanation: Explanation) -> dict[str, Tensor]:
    """|S - the map's total| / |S| after each step of the post-processing -> (B,) each;
    conservation_error is before.

    completeness_error_relu: of the raw map R = sum_k M_k after ReLU, |S - sum_xy relu(R)| / |S|.
    completeness_error_heatmap: of the heatmap, whose total is its mean times the raw map's number
    of positions: |S
    - h w mean(heatmap)| / |S|.
    """
    S = explanation.required_trace.scores.double()  # (B,)
    raw_map = explanation.required_raw_map.double()  # (B, h, w)
    space = axes(raw_map, 1)
    heatmap_total = explanation.required_heatmap.double().mean(space) * raw_map[0].numel()
    return {
        "completeness_error_relu": (S - raw_map.clamp(min=0).sum(space)).abs() / S.abs(),
        "completeness_error_heatmap": (S - heatmap_total).abs() / S.abs(),
    }
