"""Insertion minus deletion: both areas of RISE in one number.

The areas are those of Petsiuk et al., RISE, BMVC 2018, arXiv:1806.07421.
"""

from __future__ import annotations

from torch import Tensor

from axiom_bench.evaluation.queries import MetricGenerator
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.shared.perturbation import Fill, Perturbation
from axiom_bench.metrics.shared.pixel_curves import area, pixel_curve


def insertion_minus_deletion(
    explanation: Explanation,
    steps: int = 224,
    insertion_fill: Fill = "rise",
    deletion_fill: Fill = "zero",
    blur: float = 0.0223,
    output: str = "probability",
    first: str = "highest",
) -> MetricGenerator[Tensor]:
    """Compute insertion_auc - deletion_auc.

    With the parameters of those two metrics it needs no passes of its own.

    Args:
        explanation: The explanation, with its heatmap (B, H', W') and its trace.
        steps: The number of steps, each with the same number of pixels.
        insertion_fill: The fill on which pixels appear; see `shared.perturbation.Filling`.
        deletion_fill: The fill that replaces removed pixels.
        blur: The sigma of the fill "blur", as a share of the image's shorter side.
        output: The confidence that is read; see `shared.perturbation.confidence`.
        first: "highest" or "lowest", the pixels that are changed first.

    Returns:
        The differences, (B,); higher is better.
    """
    insertion = Perturbation(insertion_fill, blur, output)
    deletion = Perturbation(deletion_fill, blur, output)
    # These requests equal those of `insertion_auc` and `deletion_auc`, which share their answers.
    inserted = yield from pixel_curve(explanation, steps, insertion, first, inserts=True)
    deleted = yield from pixel_curve(explanation, steps, deletion, first, inserts=False)
    return area(inserted) - area(deleted)
