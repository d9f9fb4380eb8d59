"""Sensitivity-n: Ancona et al., ICLR 2018, arXiv:1711.06104, section 4.

The paper is "Towards better understanding of gradient-based attribution methods".
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from axiom_bench.errors import BenchError
from axiom_bench.evaluation.queries import MetricGenerator
from axiom_bench.explanation.explanation import Curve, Explanation
from axiom_bench.metrics.shared.perturbation import Perturbation, takes_fields
from axiom_bench.metrics.shared.random_subsets import (
    Subsets,
    drops_correlation,
    pixels_at_random,
    subset_drops,
)


@takes_fields
def sensitivity_n(
    explanation: Explanation,
    fractions: Sequence[float] = (0.001, 0.01, 0.1, 0.2, 0.4, 0.6, 0.8),
    subsets: int = 100,
    perturbation: Perturbation = Perturbation(output="logit"),
    seed: int = 0,
) -> MetricGenerator[dict[str, Tensor | Curve]]:
    """Correlate, over subsets of n pixels, the map's sum and the score's drop; average over n.

    The value is Pearson's correlation. The map is the signed raw map resized to the image.

    Args:
        explanation: The explanation, with its raw map (B, h, w) and its trace.
        fractions: The values of n, as shares of the pixels. A subset has at least one pixel.
        subsets: The number of subsets for each n. They are the same for all methods.
        perturbation: The replacement and the output; see `shared.perturbation.Perturbation`.
        seed: The subsets are drawn from the seed and the image.

    Returns:
        sensitivity_n, (B,) in [-1, 1]; and the curve sensitivity_n_by_size, (B, fractions). Higher
        is better.

    Raises:
        BenchError: If a fraction isn't in (0, 1), or there are less than two subsets.
    """
    points = yield from _points(explanation, fractions, subsets, perturbation, seed)
    by_size = Curve(points, fractions, "Sensitivity-n", "fraction of pixels removed", "correlation")
    return {"sensitivity_n": points.mean(1), "sensitivity_n_by_size": by_size}


def _points(
    explanation: Explanation,
    fractions: Sequence[float],
    subsets: int,
    perturbation: Perturbation,
    seed: int,
) -> MetricGenerator[Tensor]:
    """Ask for the correlation over the subsets of each n: (B, fractions)."""
    if not fractions or not all(0 < fraction < 1 for fraction in fractions) or subsets < 2:
        raise BenchError(
            "sensitivity_n needs fractions between 0 and 1 and 2 subsets or more, not "
            f"{list(fractions)} and {subsets}."
        )
    pixels = explanation.required_images[0, 0].numel()
    draws = []
    for fraction in fractions:
        draws += [pixels_at_random(max(1, round(fraction * pixels)))] * subsets
    removed = Subsets(f"sensitivity-n {list(fractions)}", draws, perturbation, seed)
    attributed, drops = yield from subset_drops(explanation, removed)
    sums_by_size = attributed.split(subsets, dim=1)
    drops_by_size = drops.split(subsets, dim=1)
    correlations = []
    for size_sums, size_drops in zip(sums_by_size, drops_by_size, strict=True):
        correlations.append(drops_correlation(explanation, size_sums, size_drops))
    return torch.stack(correlations, dim=1)
