"""Insertion and deletion areas, RISE's (arXiv:1806.07421), by fewer points of the same curves."""

from __future__ import annotations

import torch
from torch import Tensor

from axiom_bench.evaluation.queries import MetricGenerator
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.shared.perturbation import Fill, Perturbation, takes_fields
from axiom_bench.metrics.shared.pixel_curves import (
    area_weights,
    few_points,
    filled_image,
    partly_filled,
    step_counts,
)
from axiom_bench.metrics.shared.pixel_order import pixel_ranks


@takes_fields
def insertion_auc_fast(
    explanation: Explanation,
    passes: int = 10,
    steps: int = 224,
    perturbation: Perturbation = Perturbation("rise", 0.0223),
    first: str = "highest",
) -> MetricGenerator[Tensor]:
    """`insertion_auc` by `passes` of its points -> (B,); higher is better. See
    `shared.pixel_curves.few_points`.

    The fill alone is one more pass, for all methods.
    """
    return (yield from _area(explanation, passes, steps, perturbation, first, inserts=True))


@takes_fields
def deletion_auc_fast(
    explanation: Explanation,
    passes: int = 10,
    steps: int = 224,
    perturbation: Perturbation = Perturbation("zero", 0.0223),
    first: str = "highest",
) -> MetricGenerator[Tensor]:
    """`deletion_auc` by `passes` of its points -> (B,); lower is better. See
    `insertion_auc_fast`.
    """
    return (yield from _area(explanation, passes, steps, perturbation, first, inserts=False))


def insertion_minus_deletion_fast(
    explanation: Explanation,
    passes: int = 10,
    steps: int = 224,
    insertion_fill: Fill = "rise",
    deletion_fill: Fill = "zero",
    blur: float = 0.0223,
    output: str = "probability",
    first: str = "highest",
) -> MetricGenerator[Tensor]:
    """insertion_auc_fast - deletion_auc_fast -> (B,); higher is better.

    At the parameters of those two metrics it costs no pass of its own.
    """
    insertion = Perturbation(insertion_fill, blur, output)
    deletion = Perturbation(deletion_fill, blur, output)
    inserted = yield from _area(explanation, passes, steps, insertion, first, inserts=True)
    deleted = yield from _area(explanation, passes, steps, deletion, first, inserts=False)
    return inserted - deleted


def _area(
    explanation: Explanation,
    passes: int,
    steps: int,
    perturbation: Perturbation,
    first: str,
    inserts: bool,
) -> MetricGenerator[Tensor]:
    all_counts = step_counts(explanation, steps)
    chosen = few_points(steps, passes)
    key = ("fast curve", passes, steps, first)
    filled = yield filled_image(explanation, perturbation)
    image = perturbation.image_confidence(explanation)
    inner = image[:, :0]
    if len(chosen) > 0:  # a curve of one step has its ends alone
        ranks = pixel_ranks(explanation, first)
        inner = yield partly_filled(
            explanation, key, ranks, all_counts[chosen], perturbation, inserts
        )
    curve = [filled, inner, image] if inserts else [image, inner, filled]
    return (torch.cat(curve, dim=1) * area_weights(chosen, steps).to(image)).sum(1)
