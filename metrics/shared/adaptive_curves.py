"""Areas under curves of many points, of few of them: those where the curve moves most, an image's own."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from axiom_bench.errors import BenchError
from axiom_bench.evaluation.queries import MetricGenerator, PerturbedImages

FLAT = 0.1  # what a piece of the curve without a rise counts as, of the curve's range: dips hide in wide pieces
Request = Callable[[Tensor, int], PerturbedImages]  # positions (B, n) and the number of the round -> their points


def adaptive_area(request: Request, first: Tensor, last: Tensor, steps: int, passes: int) -> MetricGenerator[Tensor]:
    """The area under a curve of `steps` equal steps over [0, 1], by trapezoids over `passes` inner points -> (B,).

    first and last: the curve at 0 and 1, (B,) each. Two thirds of the points are chosen by what is known, two at a
    time: the middles of the two pieces whose width times rise is largest, the rise over the curve's range and at least
    FLAT. The trapezoid's error of a curve that only rises, or only falls, is at most half of that. The others lie
    evenly. Every image costs `passes`; where there are no more points than that, all are taken.
    Raises BenchError for less than three passes.
    """
    if passes < 3:
        raise BenchError(f"An area by adaptive points needs at least 3 passes, not passes={passes}.")
    if steps - 1 <= passes:
        at = torch.arange(1, steps, device=first.device).expand(len(first), -1)
        inner = (yield request(at, 0)) if steps > 1 else first[:, None][:, :0]
        return torch.trapezoid(torch.cat([first[:, None], inner, last[:, None]], dim=1), dx=1 / steps, dim=1)
    rounds = passes // 3
    even = passes - 2 * rounds
    chosen = (torch.arange(1, even + 1, device=first.device) * steps / (even + 1)).round().long().expand(len(first), -1)
    ends = torch.tensor([0, steps], device=first.device).expand(len(first), -1)
    at, points = ends, torch.stack([first, last], dim=1)
    for number in range(rounds + 1):
        points = torch.cat([points, (yield request(chosen, number))], dim=1)
        at, order = torch.cat([at, chosen], dim=1).sort(dim=1, stable=True)
        points = points.gather(1, order)
        chosen = widest_rises(at, points)
    return torch.trapezoid(points, at.to(points) / steps, dim=1)


def widest_rises(at: Tensor, points: Tensor) -> Tensor:
    """The middles of the two pieces with the largest width x rise that can be halved: (B, n) twice -> int64 (B, 2).

    Rises are rounded to 1e-4 of the curve's range, and of equal ones the first is taken: flat pieces are equal but for
    the rounding of passes, which another batch size changes.
    """
    widths = at.diff(dim=1)
    spread = points.amax(1, keepdim=True) - points.amin(1, keepdim=True)
    rises = (points.diff(dim=1).abs() / spread.masked_fill(spread == 0, 1)).nan_to_num(1).round(decimals=4)
    gain = (widths * (rises + FLAT)).masked_fill(widths < 2, 0)
    widest = gain.sort(dim=1, descending=True, stable=True).indices[:, :2]
    return (at.gather(1, widest) + at.gather(1, widest + 1)) // 2
