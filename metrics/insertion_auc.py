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
    """Compute the area under the class's probability as pixels appear, highest first.

    Args:
        explanation: The explanation, with its heatmap (B, H', W') and its trace.
        steps: The number of steps, each with the same number of pixels. At 224 x 224 pixels, 224
            steps are the published steps of 224 pixels.
        perturbation: The fill on which pixels appear, and the output; see
            `shared.pixel_curves.pixel_curve`. The fill "rise" is the image blurred with the
            published kernel of 11 x 11 pixels; see `shared.perturbation.Filling` for others.
        first: "highest" or "lowest", the pixels that appear first.

    Returns:
        insertion_auc, (B,), higher is better; and the curve insertion, (B, steps + 1).
    """
    curve = yield from pixel_curve(explanation, steps, perturbation, first, inserts=True)
    fractions = [step / steps for step in range(steps + 1)]
    drawn = Curve(curve, fractions, "Insertion", "fraction of pixels inserted", perturbation.output)
    return {"insertion_auc": area(curve), "insertion": drawn}
