"""Symmetric relevance gain (Blücher et al., arXiv:2401.06654) from few points of the curves."""

from __future__ import annotations

import torch
from torch import Tensor

from axiom_bench.evaluation.queries import MetricGenerator
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.shared.perturbation import Perturbation, takes_fields
from axiom_bench.metrics.shared.pixel_curves import area_weights, few_points, partly_filled
from axiom_bench.metrics.shared.similarity import mask_undefined
from axiom_bench.metrics.srg import cell_ranks


@takes_fields
def srg_fast(
    explanation: Explanation,
    passes: int = 6,
    grid: int = 5,
    perturbation: Perturbation = Perturbation(),
) -> MetricGenerator[Tensor]:
    """Compute `srg` from `passes` points of each of its two curves.

    The points are those of `shared.pixel_curves.few_points`. Both curves begin and end alike, so
    their ends need no pass.

    Args:
        explanation: The explanation, with its raw map (B, h, w) and its trace.
        passes: The number of inner points of each curve.
        grid: The number of cells per side.
        perturbation: The replacement and the output; see `shared.perturbation.Perturbation`.

    Returns:
        The areas, (B,) in [-1, 1]; higher is better. They are NaN if the map is constant.

    Raises:
        BenchError: If there is less than one pass, or the images can't have this grid.
    """
    chosen = few_points(grid**2, passes)
    curves = []
    for first in ("lowest", "highest"):
        key = ("fast srg", passes, grid, first)
        ranks = cell_ranks(explanation, grid, first)
        curve = yield partly_filled(explanation, key, ranks, chosen, perturbation, inserts=False)
        curves.append(curve)
    # Both curves begin at the image and end at the fill, so their difference is 0 at the ends.
    weights = area_weights(chosen, grid**2)[1:-1].to(curves[0])
    gain = ((curves[0] - curves[1]) * weights).sum(1)
    return mask_undefined(gain, explanation.required_raw_map, torch.cat(curves, dim=1))
