"""ARCC: Domeniconi et al., How to Evaluate and Refine your CAM, ICPR 2026, arXiv:2605.14641."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from axiom_bench.cutting.numerics import axes
from axiom_bench.evaluation.queries import MetricGenerator
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.road import road_combined
from axiom_bench.metrics.shared.perturbation import Filling, kept_map, takes_fields
from axiom_bench.metrics.shared.similarity import pearson

FRACTIONS = (0.2, 0.4, 0.6, 0.8)


@takes_fields
def arcc(
    explanation: Explanation,
    fractions: Sequence[float] = FRACTIONS,
    noise: float = 0.01,
    filling: Filling = Filling(),
    seed: int = 0,
) -> MetricGenerator[Tensor]:
    """The harmonic mean of coherency, 1 - complexity and ROAD -> (B,) in [0, 1]; higher is better.

    ADCC with ROAD in the place of 1 - average drop. Coherency and complexity: see `adcc`, with
    which it shares the map of what the map keeps; fill and blur are of what it doesn't. ROAD: twice
    `road_combined`, whose fractions, noise and seed these are, at least 0. 0 where one of the three
    is 0. NaN where the map, or that of what it keeps, is constant. Costs two passes a fraction, and
    a trace with the method.
    """
    heatmap = explanation.required_heatmap
    combined = yield from road_combined(explanation, fractions, noise, "probability", seed)
    kept, _ = yield kept_map(explanation, filling)
    return harmonic_mean(heatmap, kept, combined)


def harmonic_mean(heatmap: Tensor, kept: Tensor, combined: Tensor) -> Tensor:
    """Of coherency, 1 - complexity and twice ROAD, cut to [0, 1]: two (B, H', W') and (B,) -> (B,);
    see `arcc`.
    """
    road = (2 * combined).clamp(0, 1)
    coherency = (1 + pearson(heatmap, kept)) / 2
    harmonic = 3 / (1 / coherency + 1 / (1 - heatmap.double().mean(axes(heatmap, 1))) + 1 / road)
    # Infinite where a map or the model's answer isn't finite, since NaN means a constant map.
    has_map = kept.flatten(1).isfinite().all(1)
    return harmonic.masked_fill(~(has_map & combined.isfinite()), torch.inf)
