"""Insertion and deletion curves: Petsiuk et al., RISE, BMVC 2018, arXiv:1806.07421, section 4 and
algorithm 1.

And the area under a curve by few of its points, the same for all images: Clenshaw and Curtis 1960,
for a sum. The points lie as the extrema of a Chebyshev polynomial, closer towards both ends, and
the area is that of the polynomial through them. An area by trapezoids over as many points is off by
nearly as much for every curve that bends the same way, so that the mean over images is off, too;
this one hardly is.
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
from axiom_bench.metrics.shared.perturbation import Perturbation, numbers_of_first
from axiom_bench.metrics.shared.pixel_order import pixel_ranks


def pixel_curve(
    explanation: Explanation, steps: int, perturbation: Perturbation, first: str, inserts: bool
) -> MetricGenerator[Tensor]:
    """The model's confidence as the image's pixels appear on the fill, or are filled, in the map's
    order.

    (B, steps + 1) in float64. Entry j: with round(j / steps x pixels) of them. The image itself
    needs no pass. first: "highest" or "lowest" pixels of the map; see `shared.pixel_order`.
    """
    counts = step_counts(explanation, steps)
    counts = counts[:-1] if inserts else counts[1:]
    key = ("pixel curve", steps, first)
    scores = yield partly_filled(
        explanation, key, pixel_ranks(explanation, first), counts, perturbation, inserts
    )
    image = perturbation.image_confidence(explanation)
    return torch.cat([scores, image] if inserts else [image, scores], dim=1)


def area(curve: Tensor) -> Tensor:
    """The area under a curve over fractions from 0 to 1, by trapezoids: (B, n) -> (B,)."""
    return torch.trapezoid(curve, dx=1 / (curve.shape[1] - 1), dim=1)


def partly_filled(
    explanation: Explanation,
    key: Hashable,
    ranks: Tensor,
    counts: Tensor,
    perturbation: Perturbation,
    inserts: bool,
) -> PerturbedImages:
    """Copies of each image that show its pixels of the first ranks on the fill, or all but them.

    ranks: (B, H', W') int64, of each pixel, from 0; equal ones, as of a patch, go together. counts:
    (n,), or (B, n) for an image's own, of the ranks that a copy takes. inserts: whether these
    pixels are shown, or filled in. The answer is the model's confidence, (B, n). Where methods show
    or fill the same pixels, a copy is classified once.
    """
    limits = counts.to(ranks.device).expand(len(ranks), -1)

    def is_filled(rows: slice, copies: slice) -> Tensor:
        is_first = ranks[rows, None] < over_space(limits[rows, copies], ranks[:, None])
        return is_first != inserts

    return perturbation.request(
        explanation,
        key=(key, inserts),
        count=limits.shape[1],
        is_replaced=is_filled,
        same=(("partly filled", inserts), numbers_of_first(ranks, limits)),
    )


def filled_image(explanation: Explanation, perturbation: Perturbation) -> PerturbedImages:
    """Nothing but the fill, of the image alone, so once for all methods. The answer is the
    confidence, (B, 1).
    """
    everywhere = torch.ones_like(explanation.required_heatmap[:1, None], dtype=torch.bool)
    return perturbation.request(
        explanation, "filled", 1, lambda rows, copies: everywhere, of_image=True
    )


def step_counts(explanation: Explanation, steps: int) -> Tensor:
    """Numbers of pixels after 0, 1, ... steps of equal size: (steps + 1,). Raises BenchError for
    less than one step.
    """
    if steps < 1:
        raise BenchError(f"A curve needs at least one step, not steps={steps}.")
    pixels = explanation.required_heatmap[0].numel()
    return (torch.arange(steps + 1).double() * pixels / steps).round()


def few_points(steps: int, passes: int) -> Tensor:
    """The inner points of a curve over `steps` equal steps to ask for, of 1, ... steps - 1,
    ascending: (n,) int64.

    n is `passes`, or all where there are no more; fewer where two points would be one. Raises
    BenchError for no pass.
    """
    if passes < 1:
        raise BenchError(f"An area by few points needs at least one pass, not passes={passes}.")
    if steps - 1 <= passes:
        return torch.arange(1, steps)
    angles = torch.arange(1, passes + 1, dtype=torch.float64) * (math.pi / (passes + 1))
    # Rounded before, too: the middle of an odd number of steps would go up or down by the last bit.
    return (
        ((1 - angles.cos()) * (steps / 2))
        .round(decimals=9)
        .round()
        .long()
        .clamp(1, steps - 1)
        .unique()
    )


def area_weights(points: Tensor, steps: int) -> Tensor:
    """What each point counts in the area, the ends 0 and `steps` included: (n + 2,) float64, from
    (n,) inner points.

    The sum of trapezoids over all steps of any polynomial, up to the degree that as many points
    determine, is what the weighted points give. Of such weights the nearest to the trapezoids'
    between the points. The degree is at most 2 sqrt(steps), since through equal steps no higher one
    is stable, so that all points have the trapezoids' weights.
    """
    at = torch.cat([torch.tensor([0]), points, torch.tensor([steps])])
    every = torch.arange(steps + 1)
    degree = min(len(at) - 1, math.isqrt(4 * steps))
    missing = _chebyshev(every, steps, degree) @ _trapezoids(every) - _chebyshev(
        at, steps, degree
    ) @ _trapezoids(at)
    correction = torch.linalg.lstsq(
        _chebyshev(at, steps, degree), missing[:, None], driver="gelsd"
    ).solution[:, 0]
    return (_trapezoids(at) + correction) / steps


def _trapezoids(at: Tensor) -> Tensor:
    """The weights of the trapezoid rule on rising places."""
    halves = at.diff().double() / 2
    return torch.cat([halves, halves.new_zeros(1)]) + torch.cat([halves.new_zeros(1), halves])


def _chebyshev(at: Tensor, steps: int, degree: int) -> Tensor:
    """The Chebyshev polynomials of degrees 0 to `degree` at places from 0 to `steps`: (degree + 1,
    n).
    """
    angles = (2 * at.double() / steps - 1).clamp(-1, 1).acos()
    return (torch.arange(degree + 1).double()[:, None] * angles).cos()
