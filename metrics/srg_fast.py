"""Symmetric relevance gain (Blücher et al., arXiv:2401.06654) by fewer points of the same
curves.
"""

from __future__ import annotations

import torch
from torch import Tensor

from axiom_bench.evaluation.queries import MetricGenerator
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.shared.perturbation import Perturbation, takes_fields
from axiom_bench.metrics.shared.pixel_curves import area_weights, few_points, partly_filled
from axiom_bench.metrics.shared.similarity import where_defined
from axiom_bench.metrics.srg import cell_ranks


@takes_fields
def srg_fast(
    explanation: Explanation,
    passes: int = 6,
    grid: int = 5,
    perturbation: Perturbation = Perturbation(),
) -> MetricGenerator[Tensor]:
    """`srg` by `passes` of the points of each of its two curves -> (B,) in [-1, 1]; higher is
    better.

    Points: see `shared.pixel_curves.few_points`. Both curves begin and end alike, so their ends
    need no pass. NaN where the map is constant.
    """
    chosen = few_points(grid**2, passes)
    curves = []
    for first in ("lowest", "highest"):
        key = ("fast srg", passes, grid, first)
        ranks = cell_ranks(explanation, grid, first)
        curves.append(
            (yield partly_filled(explanation, key, ranks, chosen, perturbation, inserts=False))
        )
    gain = ((curves[0] - curves[1]) * area_weights(chosen, grid**2)[1:-1].to(curves[0])).sum(1)
    return where_defined(gain, explanation.required_raw_map, torch.cat(curves, dim=1))
