"""Insertion: Petsiuk et al., RISE, BMVC 2018, arXiv:1806.07421, section 4."""

from __future__ import annotations

from torch import Tensor

from axiom_bench.evaluation.queries import MetricGenerator
from axiom_bench.explanation.explanation import Curve, Explanation
from axiom_bench.metrics.shared.perturbation import Perturbation, takes_fields
from axiom_bench.metrics.shared.pixel_curves import area, pixel_curve


@takes_fields
def insertion_auc(
    explanation: Explanation,
    steps: int = 224,
    perturbation: Perturbation = Perturbation("rise", 0.0223),
    first: str = "highest",
) -> MetricGenerator[dict[str, Tensor | Curve]]:
    """Area under the class's probability as pixels appear on a blurred image, highest first ->
    (B,); higher is better.

    {insertion_auc: (B,), insertion: the curve, (B, steps + 1)}. steps: of equal numbers of pixels;
    224 at 224 x 224 are the published 224 pixels each. fill "rise": the published kernel of 11 x 11
    pixels; see `shared.perturbation.Filling` for others. output and first: see
    `shared.pixel_curves.pixel_curve`.
    """
    curve = yield from pixel_curve(explanation, steps, perturbation, first, inserts=True)
    fractions = [step / steps for step in range(steps + 1)]
    drawn = Curve(curve, fractions, "Insertion", "fraction of pixels inserted", perturbation.output)
    return {"insertion_auc": area(curve), "insertion": drawn}
