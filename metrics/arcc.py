"""ARCC: Domeniconi et al., ICPR 2026, arXiv:2605.14641.

The paper is "How to Evaluate and Refine your CAM".
"""

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
    """Compute ARCC, the harmonic mean of coherency, 1 - complexity and ROAD.

    ARCC is ADCC with ROAD instead of 1 - average drop. Coherency and complexity are those of
    `adcc`, and both metrics share the map of the kept image. ROAD is twice `road_combined`, at
    least 0. The metric costs two passes per fraction, and a trace with the method.

    Args:
        explanation: The explanation, with its heatmap (B, H', W') and its trace.
        fractions: The fractions of ROAD, between 0 and 1.
        noise: The standard deviation of ROAD's noise, in the network's input.
        filling: The replacement of the pixels that the map hides, for coherency; see
            `shared.perturbation.Filling`.
        seed: The seed of ROAD's noise.

    Returns:
        ARCC, (B,) in [0, 1]; higher is better. It is 0 if one of the three terms is 0. It is NaN if
        the map is constant, or the map of the kept image is.
    """
    heatmap = explanation.required_heatmap
    combined = yield from road_combined(explanation, fractions, noise, "probability", seed)
    kept, _ = yield kept_map(explanation, filling)
    return harmonic_mean(heatmap, kept, combined)


def harmonic_mean(heatmap: Tensor, kept: Tensor, combined: Tensor) -> Tensor:
    """Compute the harmonic mean of coherency, 1 - complexity and twice ROAD; see `arcc`.

    Args:
        heatmap: The heatmaps, (B, H', W').
        kept: The heatmaps of the kept images, (B, H', W').
        combined: The values of `road_combined`, (B,). Twice these values are cut to [0, 1].

    Returns:
        The harmonic means, (B,). They are infinite if `kept` or `combined` isn't finite.
    """
    road = (2 * combined).clamp(0, 1)
    coherency = (1 + pearson(heatmap, kept)) / 2
    complexity = heatmap.double().mean(axes(heatmap, 1))
    harmonic = 3 / (1 / coherency + 1 / (1 - complexity) + 1 / road)
    # Infinite if a map or the model's answer isn't finite, since NaN means a constant map.
    has_map = kept.flatten(1).isfinite().all(1)
    return harmonic.masked_fill(~(has_map & combined.isfinite()), torch.inf)
