"""Infidelity: Yeh et al., On the (In)fidelity and Sensitivity of Explanations, NeurIPS 2019, arXiv:1901.09392."""

from __future__ import annotations

import torch
from torch import Tensor

from axiom_bench.errors import BenchError
from axiom_bench.evaluation.queries import MetricGenerator
from axiom_bench.explanation.explanation import Explanation, given
from axiom_bench.metrics.shared.perturbation import Fill
from axiom_bench.metrics.shared.random_subsets import Subsets, square_at_random, subset_drops


def infidelity(
    explanation: Explanation,
    sides: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4, 0.5),
    squares: int = 20,
    fill: Fill = "zero",
    blur: float = 0.05,
    output: str = "logit",
    scaled: bool = True,
    seed: int = 0,
) -> MetricGenerator[Tensor]:
    """Mean, over random squares, of (a sum of the map in the square - the score's drop without it)^2 -> (B,); 0: best.

    Definition 2.1 with square removal. The squares' sides are shares of the image's shorter side, `squares` of each,
    drawn from `seed` and the image, the same for all methods. The map is the signed raw map resized to the image, and
    I its square's indicator, since a CAM attributes parts of the score, not of a gradient. scaled: a is the best single
    factor, as in the published experiments, so that maps in any unit can be compared (the factor may be negative, so a
    map with its sign flipped has the same value); otherwise a = 1, for methods on the score's scale.
    fill "zero": 0 in normalised pixels, the data set's mean colour, not black. In the score's unit, squared.
    Raises BenchError for sides not in (0, 1].
    """
    if not sides or not all(0 < side <= 1 for side in sides) or squares < 1:
        raise BenchError(
            f"infidelity needs sides in (0, 1] and at least one square of each, not {list(sides)} and {squares}."
        )
    shorter = min(given(explanation.images, "images").shape[-2:])
    draws = [square_at_random(max(1, round(side * shorter))) for side in sides for _ in range(squares)]
    removed = Subsets(f"infidelity {list(sides)}", draws, fill, blur, output, seed)
    attributed, drops = yield from subset_drops(explanation, removed)
    if scaled:
        attributed = attributed * ((attributed * drops).sum(1) / attributed.square().sum(1))[:, None]
    # Infinite where the model's answer isn't finite, since NaN means a map of zeros.
    return (attributed - drops).square().mean(1).masked_fill(~drops.isfinite().all(1), torch.inf)
