"""Sensitivity-n: Ancona et al., Towards better understanding of gradient-based attribution methods,
ICLR 2018, arXiv:1711.06104, section 4.
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
    """Pearson's correlation, over subsets of n pixels, of the map's sum and the score's drop, mean
    over n -> (B,).

    {sensitivity_n: (B,) in [-1, 1], sensitivity_n_by_size: the curve, (B, fractions)}; higher is
    better. fractions: n over the number of pixels, at least one pixel. subsets: of each n, drawn
    from `seed` and the image, the same for all methods. The map is the signed raw map resized to
    the image. Raises BenchError for a fraction not in (0, 1), and for less than two subsets.
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
    """The correlation over the subsets of each n: (B, fractions)."""
    if not fractions or not all(0 < fraction < 1 for fraction in fractions) or subsets < 2:
        raise BenchError(
            "sensitivity_n needs fractions between 0 and 1 and 2 subsets or more, not "
            f"{list(fractions)} and {subsets}."
        )
    pixels = explanation.required_images[0, 0].numel()
    draws = [
        pixels_at_random(max(1, round(fraction * pixels)))
        for fraction in fractions
        for _ in range(subsets)
    ]
    removed = Subsets(f"sensitivity-n {list(fractions)}", draws, perturbation, seed)
    attributed, drops = yield from subset_drops(explanation, removed)
    of_sizes = zip(attributed.split(subsets, dim=1), drops.split(subsets, dim=1), strict=True)
    return torch.stack([drops_correlation(explanation, *pair) for pair in of_sizes], dim=1)
