"""Deletion: Petsiuk et al., RISE, BMVC 2018, arXiv:1806.07421, section 4."""

from __future__ import annotations

from torch import Tensor

from axiom_bench.evaluation.queries import MetricGenerator
from axiom_bench.explanation.explanation import Curve, Explanation
from axiom_bench.metrics.shared.perturbation import Fill
from axiom_bench.metrics.shared.pixel_curves import area, deletion_curve


def deletion_auc(
    explanation: Explanation,
    steps: int = 224,
    fill: Fill = "zero",
    blur: float = 0.0223,
    output: str = "probability",
    first: str = "highest",
) -> MetricGenerator[dict[str, Tensor | Curve]]:
    """Area under the class's probability as pixels are removed, highest first -> (B,); lower is better.

    {deletion_auc: (B,), deletion: the curve, (B, steps + 1)}. steps: of equal numbers of pixels; 224 at 224 x 224
    are the published 224 pixels each. fill, output and first: see `shared.pixel_curves.insertion_curve`.
    """
    curve = yield from deletion_curve(explanation, steps, fill, blur, output, first)
    fractions = [step / steps for step in range(steps + 1)]
    drawn = Curve(curve, fractions, "Deletion", "fraction of pixels removed", output)
    return {"deletion_auc": area(curve), "deletion": drawn}
