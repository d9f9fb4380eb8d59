"""Faithfulness correlation: Bhatt et al., IJCAI 2020, arXiv:2005.00631, section 3.

The paper is "Evaluating and Aggregating Feature-based Model Explanations". The module also has the
form of this metric that xplique calls MuFidelity.
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
from axiom_bench.metrics.shared.similarity import mask_undefined, spearman


@takes_fields
def faithfulness_correlation(
    explanation: Explanation,
    fraction: float = 0.0045,
    subsets: int = 100,
    perturbation: Perturbation = Perturbation(output="logit"),
    seed: int = 0,
) -> MetricGenerator[Tensor]:
    """Correlate, over random subsets of pixels, the map's sum and the score's drop.

    The value is Pearson's correlation. The map is the signed raw map resized to the image.

    Args:
        explanation: The explanation, with its raw map (B, h, w) and its trace.
        fraction: The share of the pixels in each subset.
        subsets: The number of subsets. They are the same for all methods.
        perturbation: The replacement and the output; see `shared.perturbation.Perturbation`.
        seed: The subsets are drawn from the seed and the image.

    Returns:
        The correlations, (B,) in [-1, 1]; higher is better.

    Raises:
        BenchError: If the fraction isn't in (0, 1), or there are less than two subsets.
    """
    if not 0 < fraction < 1 or subsets < 2:
        raise BenchError(
            "faithfulness_correlation needs a fraction between 0 and 1 and 2 subsets or more, "
            f"not {fraction} and {subsets}."
        )
    pixels = explanation.required_images[0, 0].numel()
    draws = [pixels_at_random(max(1, round(fraction * pixels)))] * subsets
    # The drops are shared under this name, so it tells subsets of other fractions apart.
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
    """Correlate the ranks, over random subsets of cells, of the map's sum and the score's drop.

    The metric is `faithfulness_correlation` with Spearman's correlation, and with subsets of the
    grid^2 cells of `shared.cells.cell_numbers`.

    Args:
        explanation: The explanation, with its raw map (B, h, w) and its trace.
        grid: The number of cells per side.
        fraction: The share of the cells in each subset.
        subsets: The number of subsets. They are the same for all methods.
        perturbation: The replacement and the output; see `shared.perturbation.Perturbation`.
        seed: The subsets are drawn from the seed and the image.

    Returns:
        The correlations, (B,) in [-1, 1]; higher is better.

    Raises:
        BenchError: If the fraction isn't in (0, 1), there are less than two subsets, or the images
            can't have this grid.
    """
    if not 0 < fraction < 1 or subsets < 2:
        raise BenchError(
            f"mu_fidelity needs a fraction between 0 and 1 and 2 subsets or more, not {fraction} "
            f"and {subsets}."
        )
    numbers = cell_numbers(explanation, grid).cpu()
    draw = _cells_at_random(numbers, count=max(1, round(fraction * grid**2)))
    # The drops are shared under this name, so it tells subsets of other cells apart.
    removed = Subsets(f"mu fidelity {grid} {fraction}", [draw] * subsets, perturbation, seed)
    attributed, drops = yield from subset_drops(explanation, removed)
    return mask_undefined(spearman(attributed, drops), explanation.required_raw_map, drops)


def _cells_at_random(numbers: Tensor, count: int) -> Subset:
    """Return a subset of `count` cells, all equally likely, by each pixel's cell in `numbers`."""
    pick = pixels_at_random(count)
    cells = (int(numbers.max()) + 1,)

    def draw(generator: torch.Generator, size: tuple[int, ...]) -> Tensor:
        return pick(generator, cells)[numbers]

    return draw
