"""Insertion and deletion areas, RISE's (arXiv:1806.07421), by fewer points of the same curves."""

from __future__ import annotations

from torch import Tensor

from axiom_bench.evaluation.queries import MetricGenerator, PerturbedImages
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.shared.adaptive_curves import adaptive_area
from axiom_bench.metrics.shared.perturbation import Fill
from axiom_bench.metrics.shared.pixel_curves import filled_image, partly_filled, step_counts, unperturbed
from axiom_bench.metrics.shared.pixel_order import pixel_ranks


def insertion_auc_fast(
    explanation: Explanation,
    passes: int = 10,
    steps: int = 224,
    fill: Fill = "rise",
    blur: float = 0.0223,
    output: str = "probability",
    first: str = "highest",
) -> MetricGenerator[Tensor]:
    """`insertion_auc` by `passes` of its points, most of them where the curve rises most -> (B,); higher is better.

    See `shared.adaptive_curves`. The fill alone is one more pass, for all methods.
    """
    return (yield from _area(explanation, passes, steps, fill, blur, output, first, inserts=True))


def deletion_auc_fast(
    explanation: Explanation,
    passes: int = 10,
    steps: int = 224,
    fill: Fill = "zero",
    blur: float = 0.0223,
    output: str = "probability",
    first: str = "highest",
) -> MetricGenerator[Tensor]:
    """`deletion_auc` by `passes` of its points, most of them where the curve falls most -> (B,); lower is better.

    See `insertion_auc_fast`.
    """
    return (yield from _area(explanation, passes, steps, fill, blur, output, first, inserts=False))


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
    inserted = yield from _area(explanation, passes, steps, insertion_fill, blur, output, first, inserts=True)
    deleted = yield from _area(explanation, passes, steps, deletion_fill, blur, output, first, inserts=False)
    return inserted - deleted


def _area(
    explanation: Explanation, passes: int, steps: int, fill: Fill, blur: float, output: str, first: str, inserts: bool
) -> MetricGenerator[Tensor]:
    counts, ranks = step_counts(explanation, steps), pixel_ranks(explanation, first)
    key = ("fast curve", passes, steps, str(fill), blur, output, first, inserts)

    def request(at: Tensor, number: int) -> PerturbedImages:
        return partly_filled(
            explanation, (*key, number), ranks, counts.to(at.device)[at], fill, blur, output, inserts=inserts
        )

    filled = (yield filled_image(explanation, fill, blur, output))[:, 0]
    image = unperturbed(explanation, output)[:, 0]
    start, end = (filled, image) if inserts else (image, filled)
    return (yield from adaptive_area(request, start, end, steps, passes))
