"""Insertion minus deletion: both areas of Petsiuk et al., RISE, BMVC 2018, arXiv:1806.07421, in one number."""

from __future__ import annotations

from torch import Tensor

from axiom_bench.evaluation.queries import Copies
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.shared.perturbation import Fill
from axiom_bench.metrics.shared.pixel_curves import (
    area,
    deletion_copies,
    deletion_curve,
    insertion_copies,
    insertion_curve,
)


def insertion_minus_deletion(
    explanation: Explanation,
    steps: int = 224,
    insertion_fill: Fill = "blur",
    deletion_fill: Fill = "zero",
    blur: float = 0.0223,
    output: str = "probability",
    first: str = "highest",
) -> Tensor:
    """insertion_auc - deletion_auc -> (B,); higher is better.

    At the parameters of those two metrics it costs no pass of its own.
    """
    inserted = insertion_curve(explanation, steps, insertion_fill, blur, output, first)
    deleted = deletion_curve(explanation, steps, deletion_fill, blur, output, first)
    return area(inserted) - area(deleted)


def queries(
    explanation: Explanation,
    steps: int,
    insertion_fill: Fill,
    deletion_fill: Fill,
    blur: float,
    output: str,
    first: str,
) -> list[Copies]:
    """The copies of both curves."""
    return [
        insertion_copies(explanation, steps, insertion_fill, blur, output, first),
        deletion_copies(explanation, steps, deletion_fill, blur, output, first),
    ]
