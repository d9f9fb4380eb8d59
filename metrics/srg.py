"""Symmetric relevance gain: Blücher et al., Decoupling Pixel Flipping and Occlusion Strategy for
Consistent XAI Benchmarks, TMLR 2024, arXiv:2401.06654.
"""

from __future__ import annotations

import torch
import torch.nn.functional as functional
from torch import Tensor

from axiom_bench.evaluation.queries import MetricGenerator
from axiom_bench.explanation.explanation import Curve, Explanation
from axiom_bench.metrics.shared.cells import cell_numbers, cell_sums, enlarged
from axiom_bench.metrics.shared.perturbation import Perturbation, takes_fields
from axiom_bench.metrics.shared.pixel_curves import area, partly_filled
from axiom_bench.metrics.shared.pixel_order import ranks_of
from axiom_bench.metrics.shared.rounding import MILLION
from axiom_bench.metrics.shared.similarity import where_defined


@takes_fields
def srg(
    explanation: Explanation, grid: int = 5, perturbation: Perturbation = Perturbation()
) -> MetricGenerator[dict[str, Tensor | Curve]]:
    """The area between the class's probability as cells are removed, lowest first and highest first
    -> (B,).

    {srg: (B,) in [-1, 1], relevance_gain: the curve of differences, (B, grid^2 + 1)}; higher is
    better. grid: cells a side, ordered by their mean of the signed raw map resized to the image,
    equal ones (to 1e-6 of the largest) by position in both orders. Both curves start at the image
    and end at the fill, which needs no pass: 2 (grid^2 - 1) for each method. fill and blur: see
    `shared.perturbation.Filling`; output: see `confidence` there. NaN where the map is constant.
    Raises BenchError as `cell_numbers`.
    """
    counts = torch.arange(1, grid**2, dtype=torch.float64)
    curves = []
    for first in ("lowest", "highest"):
        ranks = cell_ranks(explanation, grid, first)
        key = ("srg", grid, first)
        curves.append(
            (yield partly_filled(explanation, key, ranks, counts, perturbation, inserts=False))
        )
    gain = where_defined(
        curves[0] - curves[1], explanation.required_raw_map, torch.cat(curves, dim=1)
    )
    points = functional.pad(gain, (1, 1))
    fractions = [cells / grid**2 for cells in range(grid**2 + 1)]
    label = f"{perturbation.output}, lowest first - highest first"
    drawn = Curve(
        points, fractions, "Symmetric relevance gain", "fraction of the image removed", label
    )
    return {"srg": area(points), "relevance_gain": drawn}


def cell_ranks(explanation: Explanation, grid: int, first: str) -> Tensor:
    """The rank of each pixel's cell by the map's mean in it, 0 for the first: int64 (B, H', W').

    first: "lowest" or "highest" cells; equal ones by their position. Raises BenchError as
    `cell_numbers`.
    """
    numbers = cell_numbers(explanation, grid)
    means = cell_sums(enlarged(explanation), numbers, grid**2) / numbers.flatten().bincount(
        minlength=grid**2
    )
    keys = (means / means.abs().amax(1, keepdim=True) * MILLION).round().nan_to_num(0, 0, 0)
    return ranks_of(keys, first)[:, numbers]
