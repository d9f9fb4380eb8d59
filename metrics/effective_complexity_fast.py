"""Effective complexity (Nguyen and Martinez, arXiv:2007.07584) by fewer numbers of pixels."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from axiom_bench.errors import BenchError
from axiom_bench.evaluation.queries import MetricGenerator
from axiom_bench.explanation.explanation import Explanation, given
from axiom_bench.metrics.shared.perturbation import Fill, probabilities
from axiom_bench.metrics.shared.pixel_curves import partly_filled
from axiom_bench.metrics.shared.pixel_order import pixel_ranks


def effective_complexity_fast(
    explanation: Explanation,
    tolerance: float = 0.1,
    steps: int = 20,
    tried: Sequence[int] = (1, 2, 4, 7, 10, 14, 18),
    fill: Fill = "mean",
    blur: float = 0.05,
) -> MetricGenerator[Tensor]:
    """`effective_complexity` by some of its numbers of pixels -> (B,) in [1/steps, 1], lower is simpler.

    tried: of the `steps` equal shares, in rising order; between the first that is enough and the one before it all are
    tried, so that the value is the same unless fewer pixels are enough by themselves and more are not. Costs a pass for
    each tried one, and as many as the widest gap leaves open.
    Raises BenchError for a tolerance not in [0, 1], and for `tried` that don't rise or lie outside of 1 to steps - 1.
    """
    if not 0 <= tolerance <= 1:
        raise BenchError(f"The tolerance of a probability lies in [0, 1]; it is {tolerance}.")
    bounds = [0, *tried, steps]
    if not tried or any(low >= high for low, high in pairwise(bounds)):
        raise BenchError(f"effective_complexity_fast needs rising numbers from 1 to {steps - 1}, not {list(tried)}.")
    trace, heatmap = given(explanation.trace, "trace"), given(explanation.heatmap, "heatmap")
    before, ranks = probabilities(trace.logits, trace.targets)[:, None], pixel_ranks(explanation)
    key = ("fast effective complexity", steps, tuple(tried), str(fill), blur)
    at = torch.tensor(bounds, device=heatmap.device)
    enough_at = []
    finite = torch.ones(len(heatmap), dtype=torch.bool, device=heatmap.device)
    chosen = at[1:-1].expand(len(heatmap), -1)
    for number in range(2):
        counts = (chosen.double() * heatmap[0].numel() / steps).round()
        after = yield partly_filled(
            explanation, (*key, tolerance, number), ranks, counts, fill, blur, "probability", True
        )
        enough = (before - after).abs() < tolerance
        enough_at.append(torch.where(enough, chosen, steps).amin(1, keepdim=True))
        finite &= ~after.isnan().any(1)
        place = torch.searchsorted(at, enough_at[0][:, 0])
        gap = torch.arange(1, max(high - low for low, high in pairwise(bounds)), device=at.device)
        chosen = torch.minimum(at[place - 1, None] + gap, at[place, None])
        if not len(gap):
            break
    return (torch.cat(enough_at, dim=1).amin(1).double() / steps).masked_fill(~finite, torch.nan)
