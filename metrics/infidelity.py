"""Infidelity: Yeh et al., On the (In)fidelity and Sensitivity of Explanations, NeurIPS 2019,
arXiv:1901.09392.
"""

from __future__ import annotations

from torch import Tensor

from axiom_bench.errors import BenchError
from axiom_bench.evaluation.queries import MetricGenerator
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.shared.perturbation import Perturbation, takes_fields
from axiom_bench.metrics.shared.random_subsets import (
    Subsets,
    square_at_random,
    squared_error,
    subset_drops,
)

SIDES = (
    0.0357,
    0.0714,
    0.1071,
    0.1429,
    0.1786,
    0.2143,
    0.25,
    0.2857,
    0.3214,
    0.3571,
)  # 1 to 10 of 28 pixels


@takes_fields
def infidelity(
    explanation: Explanation,
    sides: tuple[float, ...] = SIDES,
    squares: int = 100,
    perturbation: Perturbation = Perturbation(output="logit"),
    scaled: bool = True,
    seed: int = 0,
) -> MetricGenerator[Tensor]:
    """Mean, over random squares, of (a sum of the map in the square - the score's drop without
    it)^2 -> (B,); 0: best.

    Definition 2.1 with square removal. sides: of the squares, as shares of the image's shorter
    side. squares: number of draws from all squares of these sides in the image, by `seed` and the
    image, the same for all methods. The map is the signed raw map resized to the image. scaled: it
    is multiplied with the best single factor, which may be negative; otherwise it is as it is, for
    methods on the score's scale. In the score's unit, squared. Raises BenchError for sides not in
    (0, 1], and for less than one square.
    """
    if not sides or not all(0 < side <= 1 for side in sides) or squares < 1:
        raise BenchError(
            f"infidelity needs sides in (0, 1] and at least one square, not sides {list(sides)} "
            f"and {squares} squares."
        )
    shorter = min(explanation.required_images.shape[2:])
    draws = [square_at_random([max(1, round(side * shorter)) for side in sides])] * squares
    removed = Subsets(f"infidelity {list(sides)}", draws, perturbation, seed)
    attributed, drops = yield from subset_drops(explanation, removed)
    return squared_error(explanation, attributed, drops, scaled)
