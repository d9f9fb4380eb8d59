"""Deletion: Petsiuk et al., RISE, BMVC 2018, arXiv:1806.07421, section 4."""

from __future__ import annotations

from torch import Tensor

from axiom_bench.evaluation.queries import MetricGenerator
from axiom_bench.explanation.explanation import Curve, Explanation
from axiom_bench.metrics.shared.perturbation import Perturbation, takes_fields
from axiom_bench.metrics.shared.pixel_curves import area, pixel_curve


@takes_fields
def deletion_auc(
    explanation: Explanation,
    steps: int = 224,
    perturbation: Perturbation = Perturbation("zero", 0.0223),
    first: str = "highest",
) -> MetricGenerator[dict[str, Tensor | Curve]]:
    """Area under the class's probability as pixels are removed, highest first -> (B,); lower is
    better.

    {deletion_auc: (B,), deletion: the curve, (B, steps + 1)}. steps: of equal numbers of pixels;
    224 at 224 x 224 are the published 224 pixels each. fill, output and first: see
    `shared.pixel_curves.pixel_curve`.
    """
    curve = yield from pixel_curve(explanation, steps, perturbation, first, inserts=False)
    fractions = [step / steps for step in range(steps + 1)]
    drawn = Curve(curve, fractions, "Deletion", "fraction of pixels removed", perturbation.output)
    return {"deletion_auc": area(curve), "deletion": drawn}
