"""The pixels of a map in groups of equal number, in its order: each group's sum, and the drop without it alone."""

from __future__ import annotations

from collections.abc import Hashable

import torch
from torch import Tensor

from axiom_bench.cutting.numerics import axes
from axiom_bench.errors import BenchError
from axiom_bench.evaluation.queries import MetricGenerator, PerturbedImages
from axiom_bench.explanation.explanation import Explanation, given
from axiom_bench.metrics.shared.perturbation import confidence_in, numbers_of_parts, scoring
from axiom_bench.metrics.shared.pixel_order import ranks_of
from axiom_bench.metrics.shared.rounding import MILLION, scaled


def group_drops(
    explanation: Explanation, maps: Tensor, groups: int, filled: Tensor, name: tuple[Hashable, ...], output: str
) -> MetricGenerator[tuple[Tensor, Tensor, Tensor]]:
    """The map's sums, the model's drops and the pixels of each group, highest first: (B, groups) twice, (groups,).

    maps: (B, H', W'); equal pixels, to 1e-6 of the largest, are in reading order. filled: (B, 3, H', W'), or broadcast
    to it, what a group's pixels become. name: of the maps' kind, then of the fill. output: see
    `shared.perturbation.confidence`. Raises BenchError for less than two groups, and for more groups than pixels.
    """
    trace, images = given(explanation.trace, "trace"), given(explanation.images, "images")
    pixels = images[0, 0].numel()
    if not 2 <= groups <= pixels:
        raise BenchError(f"There are 2 groups of pixels or more, and no more than pixels, not groups={groups}.")
    ranks = ranks_of((scaled(maps).flatten(1) * MILLION).round().nan_to_num(0, 0, 0), "highest")
    group = (ranks * groups // pixels).view_as(maps)
    filled, numbers = filled.expand_as(images), torch.arange(groups, device=group.device)

    def perturbed(rows: slice, copies: slice) -> Tensor:
        removed = torch.stack([group[rows] == number for number in numbers[copies]], 1)  # (rows, copies, ...)
        return torch.where(removed[:, :, None], filled[rows, None], images[rows, None])

    same = ("one part filled", *name[1:], output), numbers_of_parts(group, groups)
    scores = yield PerturbedImages(
        ("pixel groups", groups, *name, output), groups, perturbed, scoring(trace, output), same=same
    )
    drops = confidence_in(trace, trace.logits, trace.targets, output)[:, None] - scores
    sums = torch.stack([maps.where(group == number, 0.0).sum(axes(maps, 1)) for number in range(groups)], dim=1)
    return sums, drops, group[0].flatten().bincount()
