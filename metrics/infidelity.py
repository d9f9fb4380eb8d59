"""Infidelity: Yeh et al., NeurIPS 2019, arXiv:1901.09392.

The paper is "On the (In)fidelity and Sensitivity of Explanations".
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

# 1 to 10 of 28 pixels
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
)


@takes_fields
def infidelity(
    explanation: Explanation,
    sides: tuple[float, ...] = SIDES,
    squares: int = 100,
    perturbation: Perturbation = Perturbation(output="logit"),
    scaled: bool = True,
    seed: int = 0,
) -> MetricGenerator[Tensor]:
    """Average the squared difference of a square's sum in the map and the drop without its pixels.

    This is definition 2.1 with square removal. The map is the signed raw map resized to the image.
    The squares are drawn from all squares of these sides in the image, and are the same for all
    methods.

    Args:
        explanation: The explanation, with its raw map (B, h, w) and its trace.
        sides: The sides of the squares, as shares of the image's shorter side.
        squares: The number of draws.
        perturbation: The replacement and the output; see `shared.perturbation.Perturbation`.
        scaled: If True, the map is multiplied by the best single factor, which may be negative. If
            False, it isn't changed, for methods on the score's scale.
        seed: The squares are drawn from the seed and the image.

    Returns:
        The infidelities, (B,), in the score's unit, squared; 0 is best.

    Raises:
        BenchError: If a side isn't in (0, 1], or there is less than one square.
    """
    if not sides or not all(0 < side <= 1 for side in sides) or squares < 1:
        raise BenchError(
            f"infidelity needs sides in (0, 1] and at least one square, not sides {list(sides)} "
            f"and {squares} squares."
        )
    shorter = min(explanation.required_images.shape[2:])
    side_pixels = [max(1, round(side * shorter)) for side in sides]
    draws = [square_at_random(side_pixels)] * squares
    # The drops are shared under this name, so it tells squares of other sides apart.
    removed = Subsets(f"infidelity {list(sides)}", draws, perturbation, seed)
    attributed, drops = yield from subset_drops(explanation, removed)
    return squared_error(explanation, attributed, drops, scaled)
