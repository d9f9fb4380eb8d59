"""Insertion and deletion areas of RISE (arXiv:1806.07421) from few points of the curves."""

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
    """Compute `insertion_auc` from `passes` points of its curve.

    The points are those of `shared.pixel_curves.few_points`. The fill by itself is one more pass,
    for all methods.

    Args:
        explanation: The explanation, with its heatmap (B, H', W') and its trace.
        passes: The number of inner points. Each costs a pass.
        steps: The number of steps of the full curve.
        perturbation: The fill and the output; see `insertion_auc`.
        first: "highest" or "lowest", the pixels that appear first.

    Returns:
        The areas, (B,); higher is better.

    Raises:
        BenchError: If there is less than one step or pass.
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
    """Compute `deletion_auc` from `passes` points of its curve; see `insertion_auc_fast`.

    Args:
        explanation: The explanation, with its heatmap (B, H', W') and its trace.
        passes: The number of inner points. Each costs a pass.
        steps: The number of steps of the full curve.
        perturbation: The fill and the output; see `deletion_auc`.
        first: "highest" or "lowest", the pixels that are removed first.

    Returns:
        The areas, (B,); lower is better.

    Raises:
        BenchError: If there is less than one step or pass.
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
    """Compute insertion_auc_fast - deletion_auc_fast.

    With the parameters of those two metrics it needs no passes of its own.

    Args:
        explanation: The explanation, with its heatmap (B, H', W') and its trace.
        passes: The number of inner points of each curve.
        steps: The number of steps of the full curves.
        insertion_fill: The fill on which pixels appear; see `shared.perturbation.Filling`.
        deletion_fill: The fill that replaces removed pixels.
        blur: The sigma of the fill "blur", as a share of the image's shorter side.
        output: The confidence that is read; see `shared.perturbation.confidence`.
        first: "highest" or "lowest", the pixels that are changed first.

    Returns:
        The differences, (B,); higher is better.

    Raises:
        BenchError: If there is less than one step or pass.
    """
    insertion = Perturbation(insertion_fill, blur, output)
    deletion = Perturbation(deletion_fill, blur, output)
    # These requests equal those of the two metrics above, which share their answers.
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
    """Ask for the area under a curve from few of its points: (B,)."""
    all_counts = step_counts(explanation, steps)
    chosen = few_points(steps, passes)
    key = ("fast curve", passes, steps, first)
    filled = yield filled_image(explanation, perturbation)
    image = perturbation.image_confidence(explanation)
    inner = image[:, :0]
    if len(chosen) > 0:  # a curve of one step has only its ends
        ranks = pixel_ranks(explanation, first)
        inner = yield partly_filled(
            explanation, key, ranks, all_counts[chosen], perturbation, inserts
        )
    points = [filled, inner, image] if inserts else [image, inner, filled]
    weights = area_weights(chosen, steps).to(image)
    return (torch.cat(points, dim=1) * weights).sum(1)
