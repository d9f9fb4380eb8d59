"""Insertion minus deletion: both areas of Petsiuk et al., RISE, BMVC 2018, arXiv:1806.07421, in one
number.
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
    """insertion_auc - deletion_auc -> (B,); higher is better.

    At the parameters of those two metrics it costs no pass of its own.
    """
    insertion = Perturbation(insertion_fill, blur, output)
    deletion = Perturbation(deletion_fill, blur, output)
    inserted = yield from pixel_curve(explanation, steps, insertion, first, inserts=True)
    deleted = yield from pixel_curve(explanation, steps, deletion, first, inserts=False)
    return area(inserted) - area(deleted)
