"""Faithfulness correlation: Bhatt et al., Evaluating and Aggregating Feature-based Model
Explanations, IJCAI 2020, arXiv:2005.00631, section 3. And the form of it that xplique calls
MuFidelity.
"""

from __future__ import annotations

import torch
from torch import Tensor

from axiom_bench.errors import BenchError
from axiom_bench.evaluation.queries import MetricGenerator
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.shared.cells import cell_numbers
from axiom_bench.metrics.shared.perturbation import Perturbation, takes_fields
from axiom_bench.metrics.shared.random_subsets import (
    Subset,
    Subsets,
    drops_correlation,
    pixels_at_random,
    subset_drops,
)
from axiom_bench.metrics.shared.similarity import spearman, where_defined


@takes_fields
def faithfulness_correlation(
    explanation: Explanation,
    fraction: float = 0.0045,
    subsets: int = 100,
    perturbation: Perturbation = Perturbation(output="logit"),
    seed: int = 0,
) -> MetricGenerator[Tensor]:
    """Pearson's correlation, over random subsets of pixels, of the map's sum and the score's drop
    -> (B,) in [-1, 1].

    Higher is better. fraction: of the pixels, the same for every subset. subsets: drawn from `seed`
    and the image, the same for all methods. The map is the signed raw map resized to the image.
    Raises BenchError for a fraction not in (0, 1), and for less than two subsets.
    """
    if not 0 < fraction < 1 or subsets < 2:
        raise BenchError(
            "faithfulness_correlation needs a fraction between 0 and 1 and 2 subsets or more, "
            f"not {fraction} and {subsets}."
        )
    pixels = explanation.required_images[0, 0].numel()
    draws = [pixels_at_random(max(1, round(fraction * pixels)))] * subsets
    removed = Subsets(f"faithfulness correlation {fraction}", draws, perturbation, seed)
    attributed, drops = yield from subset_drops(explanation, removed)
    return drops_correlation(explanation, attributed, drops)


@takes_fields
def mu_fidelity(
    explanation: Explanation,
    grid: int = 5,
    fraction: float = 0.2,
    subsets: int = 100,
    perturbation: Perturbation = Perturbation(output="logit"),
    seed: int = 0,
) -> MetricGenerator[Tensor]:
    """Spearman's correlation, over random subsets of cells, of the map's sum and the score's drop
    -> (B,) in [-1, 1].

    As `faithfulness_correlation`, but of ranks, and of a fraction of the grid^2 cells of
    `shared.cells.cell_numbers`. Raises BenchError as both.
    """
    if not 0 < fraction < 1 or subsets < 2:
        raise BenchError(
            f"mu_fidelity needs a fraction between 0 and 1 and 2 subsets or more, not {fraction} "
            f"and {subsets}."
        )
    draw = _cells_at_random(
        cell_numbers(explanation, grid).cpu(), max(1, round(fraction * grid**2))
    )
    removed = Subsets(f"mu fidelity {grid} {fraction}", [draw] * subsets, perturbation, seed)
    attributed, drops = yield from subset_drops(explanation, removed)
    return where_defined(spearman(attributed, drops), explanation.required_raw_map, drops)


def _cells_at_random(numbers: Tensor, count: int) -> Subset:
    """A union of `count` cells, all equally likely. numbers: int64 (H', W'), of each pixel's
    cell.
    """
    pick = pixels_at_random(count)
    cells = (int(numbers.max()) + 1,)

    def draw(generator: torch.Generator, size: tuple[int, ...]) -> Tensor:
        return pick(generator, cells)[numbers]

    return draw
