"""Symmetric relevance gain: Blücher et al., TMLR 2024, arXiv:2401.06654.

The paper is "Decoupling Pixel Flipping and Occlusion Strategy for Consistent XAI Benchmarks".
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
from axiom_bench.metrics.shared.similarity import mask_undefined


@takes_fields
def srg(
    explanation: Explanation, grid: int = 5, perturbation: Perturbation = Perturbation()
) -> MetricGenerator[dict[str, Tensor | Curve]]:
    """Compute the area between two curves of removed cells: lowest first, and highest first.

    The curves are those of the class's probability as cells are removed. Cells are ordered by their
    mean of the signed raw map resized to the image. Cells equal to 1e-6 of the largest are ordered
    by position in both curves. Both curves start at the image and end at the fill, which needs no
    pass: 2 (grid^2 - 1) for each method.

    Args:
        explanation: The explanation, with its raw map (B, h, w) and its trace.
        grid: The number of cells per side.
        perturbation: The replacement and the output; see `shared.perturbation.Perturbation`.

    Returns:
        srg, (B,) in [-1, 1]; and relevance_gain, the curve of differences, (B, grid^2 + 1). Higher
        is better. They are NaN if the map is constant.

    Raises:
        BenchError: If the images can't have this grid; see `shared.cells.cell_numbers`.
    """
    counts = torch.arange(1, grid**2, dtype=torch.float64)
    curves = []
    for first in ("lowest", "highest"):
        ranks = cell_ranks(explanation, grid, first)
        key = ("srg", grid, first)
        curve = yield partly_filled(explanation, key, ranks, counts, perturbation, inserts=False)
        curves.append(curve)
    scores = torch.cat(curves, dim=1)
    gain = mask_undefined(curves[0] - curves[1], explanation.required_raw_map, scores)
    points = functional.pad(gain, (1, 1))  # no gain at the image and at the fill
    fractions = [cells / grid**2 for cells in range(grid**2 + 1)]
    label = f"{perturbation.output}, lowest first - highest first"
    drawn = Curve(
        points, fractions, "Symmetric relevance gain", "fraction of the image removed", label
    )
    return {"srg": area(points), "relevance_gain": drawn}


def cell_ranks(explanation: Explanation, grid: int, first: str) -> Tensor:
    """Return the rank of each pixel's cell by the map's mean in it, 0 for the first.

    Args:
        explanation: The explanation, with its raw map (B, h, w).
        grid: The number of cells per side.
        first: "lowest" or "highest", the cells that come first. Equal ones are ordered by position.

    Returns:
        The ranks, int64 (B, H', W').

    Raises:
        BenchError: If the images can't have this grid; see `shared.cells.cell_numbers`.
    """
    numbers = cell_numbers(explanation, grid)
    sizes = numbers.flatten().bincount(minlength=grid**2)
    means = cell_sums(enlarged(explanation), numbers, grid**2) / sizes
    scaled_means = means / means.abs().amax(1, keepdim=True)
    keys = (scaled_means * MILLION).round().nan_to_num(0, 0, 0)
    return ranks_of(keys, first)[:, numbers]
