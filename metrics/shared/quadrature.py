"""The area under a curve by few of its points, the same for all images: Clenshaw and Curtis 1960, for a sum.

The points lie as the extrema of a Chebyshev polynomial, closer towards both ends, and the area is that of the
polynomial through them. An area by trapezoids over as many points is off by nearly as much for every curve that bends
the same way, so that the mean over images is off, too; this one hardly is.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from axiom_bench.errors import BenchError


def few_points(steps: int, passes: int) -> Tensor:
    """The inner points of a curve over `steps` equal steps to ask for, of 1, ... steps - 1, ascending: (n,) int64.

    n is `passes`, or all where there are no more; fewer where two points would be one. Raises BenchError for no pass.
    """
    if passes < 1:
        raise BenchError(f"An area by few points needs at least one pass, not passes={passes}.")
    if steps - 1 <= passes:
        return torch.arange(1, steps)
    angles = torch.arange(1, passes + 1, dtype=torch.float64) * (math.pi / (passes + 1))
    # Rounded before, too: the middle of an odd number of steps would go up or down by the last bit.
    return ((1 - angles.cos()) * (steps / 2)).round(decimals=9).round().long().clamp(1, steps - 1).unique()


def weights(points: Tensor, steps: int) -> Tensor:
    """What each point counts in the area, the ends 0 and `steps` included: (n + 2,) float64, from (n,) inner points.

    The sum of trapezoids over all steps of any polynomial, up to the degree that as many points determine, is what the
    weighted points give; of such weights the nearest to the trapezoids' between the points. The degree is at most
    2 sqrt(steps), since through equal steps no higher one is stable, so that all points have the trapezoids' weights.
    """
    at, every = torch.cat([torch.tensor([0]), points, torch.tensor([steps])]), torch.arange(steps + 1)
    degree = min(len(at) - 1, math.isqrt(4 * steps))
    missing = _chebyshev(every, steps, degree) @ _trapezoids(every) - _chebyshev(at, steps, degree) @ _trapezoids(at)
    correction = torch.linalg.lstsq(_chebyshev(at, steps, degree), missing[:, None], driver="gelsd").solution[:, 0]
    return (_trapezoids(at) + correction) / steps


def _trapezoids(at: Tensor) -> Tensor:
    """The weights of the trapezoid rule on rising places."""
    halves = at.diff().double() / 2
    return torch.cat([halves, halves.new_zeros(1)]) + torch.cat([halves.new_zeros(1), halves])


def _chebyshev(at: Tensor, steps: int, degree: int) -> Tensor:
    """The Chebyshev polynomials of degrees 0 to `degree` at places from 0 to `steps`: (degree + 1, n)."""
    angles = (2 * at.double() / steps - 1).clamp(-1, 1).acos()
    return (torch.arange(degree + 1).double()[:, None] * angles).cos()
