"""Insertion and deletion curves: Petsiuk et al., RISE, BMVC 2018, arXiv:1806.07421.

They are defined in section 4 and algorithm 1.

The area under a curve can be computed from few of its points, the same for all images: Clenshaw and
Curtis 1960, for a sum. The points lie as the extrema of a Chebyshev polynomial, closer towards both
ends. The area is that of the polynomial through them. An area by trapezoids over as many points is
off by nearly the same amount for every curve that bends the same way. The mean over images is
therefore off, too, but that of the polynomials hardly is.
"""

from __future__ import annotations

import math
from collections.abc import Hashable

import torch
from torch import Tensor

from axiom_bench.cutting.numerics import over_space
from axiom_bench.errors import BenchError
from axiom_bench.evaluation.queries import MetricGenerator, PerturbedImages
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.shared.perturbation import Perturbation, first_set_numbers
from axiom_bench.metrics.shared.pixel_order import pixel_ranks


def pixel_curve(
    explanation: Explanation, steps: int, perturbation: Perturbation, first: str, inserts: bool
) -> MetricGenerator[Tensor]:
    """Ask for the model's confidence as pixels appear, or are filled, in the map's order.

    Entry j of the curve is the confidence with round(j / steps x pixels) pixels changed. The image
    itself needs no pass.

    Args:
        explanation: The explanation, with its heatmap (B, H', W') and its trace.
        steps: The number of steps, each with the same number of pixels.
        perturbation: The fill and the output.
        first: "highest" or "lowest", the pixels that are changed first; see `shared.pixel_order`.
        inserts: True if pixels appear on the fill, False if they are filled.

    Returns:
        The curve, (B, steps + 1) in float64.

    Raises:
        BenchError: If there is less than one step.
    """
    counts = step_counts(explanation, steps)
    counts = counts[:-1] if inserts else counts[1:]  # without the image itself
    key = ("pixel curve", steps, first)
    ranks = pixel_ranks(explanation, first)
    scores = yield partly_filled(explanation, key, ranks, counts, perturbation, inserts)
    image = perturbation.image_confidence(explanation)
    return torch.cat([scores, image] if inserts else [image, scores], dim=1)


def area(curve: Tensor) -> Tensor:
    """Return the area under a curve (B, n) over fractions from 0 to 1, by trapezoids: (B,)."""
    return torch.trapezoid(curve, dx=1 / (curve.shape[1] - 1), dim=1)


def partly_filled(
    explanation: Explanation,
    key: Hashable,
    ranks: Tensor,
    counts: Tensor,
    perturbation: Perturbation,
    inserts: bool,
) -> PerturbedImages:
    """Ask for the confidence in copies of each image that show, or hide, pixels of the first ranks.

    If methods show or fill the same pixels, a copy is classified once.

    Args:
        explanation: The explanation, with its images and its trace.
        key: A name for the ranks and counts, which distinguishes them from others.
        ranks: The rank of each pixel from 0, int64 (B, H', W'). Equal ranks, such as those of a
            patch, go together.
        counts: The number of ranks that each copy changes, (n,), or (B, n) if images have their
            own.
        perturbation: The fill and the output.
        inserts: True if these pixels are shown on the fill, False if they are filled.

    Returns:
        The request, whose answer is the model's confidence, (B, n).
    """
    limits = counts.to(ranks.device).expand(len(ranks), -1)

    def is_filled(rows: slice, copies: slice) -> Tensor:
        is_first = ranks[rows, None] < over_space(limits[rows, copies], ranks[:, None])
        return is_first != inserts

    # Metrics and methods share a copy if the set of its filled pixels has the same number.
    same = (("partly filled", inserts), first_set_numbers(ranks, limits))
    return perturbation.request(
        explanation,
        key=(key, inserts),
        count=limits.shape[1],
        is_replaced=is_filled,
        same=same,
    )


def filled_image(explanation: Explanation, perturbation: Perturbation) -> PerturbedImages:
    """Ask for the confidence in an image that is only the fill.

    The fill depends only on the image, so that it is classified once for all methods.

    Args:
        explanation: The explanation, with its images and its trace.
        perturbation: The fill and the output.

    Returns:
        The request, whose answer is the model's confidence, (B, 1).
    """
    everywhere = torch.ones_like(explanation.required_heatmap[:1, None], dtype=torch.bool)
    return perturbation.request(
        explanation, "filled", 1, lambda rows, copies: everywhere, of_image=True
    )


def step_counts(explanation: Explanation, steps: int) -> Tensor:
    """Return the numbers of pixels after 0, 1, ... steps of equal size.

    Args:
        explanation: The explanation, with its heatmap (B, H', W').
        steps: The number of steps.

    Returns:
        The numbers, (steps + 1,).

    Raises:
        BenchError: If there is less than one step.
    """
    if steps < 1:
        raise BenchError(f"A curve needs at least one step, not steps={steps}.")
    pixels = explanation.required_heatmap[0].numel()
    return (torch.arange(steps + 1).double() * pixels / steps).round()


def few_points(steps: int, passes: int) -> Tensor:
    """Choose the inner points of a curve from which its area is computed.

    Args:
        steps: The number of equal steps of the curve.
        passes: The largest number of points. If there are no more inner points, all are chosen.

    Returns:
        The points, of 1, ... steps - 1, ascending, int64 (n,). n is smaller than `passes` if two
        points would be the same.

    Raises:
        BenchError: If there is no pass.
    """
    if passes < 1:
        raise BenchError(f"An area by few points needs at least one pass, not passes={passes}.")
    if steps - 1 <= passes:
        return torch.arange(1, steps)
    angles = torch.arange(1, passes + 1, dtype=torch.float64) * (math.pi / (passes + 1))
    extrema = (1 - angles.cos()) * (steps / 2)
    # Rounded twice: the middle of an odd number of steps would go up or down by the last bit.
    points = extrema.round(decimals=9).round().long()
    steps_solved: Tensor = points.clamp(1, steps - 1).unique()
    return steps_solved


def area_weights(points: Tensor, steps: int) -> Tensor:
    """Return how much each point counts in the area, the ends 0 and `steps` included.

    For a polynomial, the weighted points give the sum of trapezoids over all steps. This holds up
    to the degree that as many points determine. The weights are the nearest such weights to those
    of the trapezoids between the points. The degree is at most 2 sqrt(steps), since no higher one
    is stable through equal steps. If all points are chosen, they have the trapezoids' weights.

    Args:
        points: The inner points, (n,).
        steps: The number of equal steps of the curve.

    Returns:
        The weights, (n + 2,) in float64.
    """
    chosen = torch.cat([torch.tensor([0]), points, torch.tensor([steps])])
    all_points = torch.arange(steps + 1)
    degree = min(len(chosen) - 1, math.isqrt(4 * steps))
    exact_areas = _chebyshev(all_points, steps, degree) @ _trapezoids(all_points)
    polynomials = _chebyshev(chosen, steps, degree)
    missing = exact_areas - polynomials @ _trapezoids(chosen)
    solved = torch.linalg.lstsq(polynomials, missing[:, None], driver="gelsd")
    areas: Tensor = (_trapezoids(chosen) + solved.solution[:, 0]) / steps
    return areas


def _trapezoids(points: Tensor) -> Tensor:
    """Return the weights of the trapezoid rule on rising points."""
    halves = points.diff().double() / 2
    zero = halves.new_zeros(1)
    return torch.cat([halves, zero]) + torch.cat([zero, halves])


def _chebyshev(points: Tensor, steps: int, degree: int) -> Tensor:
    """Return the Chebyshev polynomials up to `degree` at points from 0 to `steps`."""
    angles = (2 * points.double() / steps - 1).clamp(-1, 1).acos()
    return (torch.arange(degree + 1).double()[:, None] * angles).cos()
