"""The pixels of a map in groups of equal number, in its order: each group's sum, and the drop
without it alone.
"""

from __future__ import annotations

import torch
from torch import Tensor

from axiom_bench.cutting.numerics import axes
from axiom_bench.errors import BenchError
from axiom_bench.evaluation.queries import MetricGenerator
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.shared.perturbation import Perturbation, numbers_of_parts
from axiom_bench.metrics.shared.pixel_order import ranks_of
from axiom_bench.metrics.shared.rounding import MILLION, scaled


def group_drops(
    explanation: Explanation, maps: Tensor, groups: int, perturbation: Perturbation, kind: str
) -> MetricGenerator[tuple[Tensor, Tensor, Tensor]]:
    """The map's sums, the model's drops and the pixels of each group, highest first: (B, groups)
    twice, (groups,).

    maps: (B, H', W'); equal pixels, to 1e-6 of the largest, are in reading order. kind: names the
    maps. Raises BenchError for less than two groups, and for more groups than pixels.
    """
    pixels = maps[0].numel()
    if not 2 <= groups <= pixels:
        raise BenchError(
            f"There are 2 groups of pixels or more, and no more than pixels, not groups={groups}."
        )
    ranks = ranks_of((scaled(maps).flatten(1) * MILLION).round().nan_to_num(0, 0, 0), "highest")
    group = (ranks * groups // pixels).view_as(maps)
    numbers = torch.arange(groups, device=group.device)

    def removed(rows: slice, copies: slice) -> Tensor:
        return torch.stack([group[rows] == number for number in numbers[copies]], 1)

    same = ("one part filled", numbers_of_parts(group, groups))
    scores = yield perturbation.request(explanation, (kind, groups), groups, removed, same=same)
    drops = perturbation.image_confidence(explanation) - scores
    sums = torch.stack(
        [maps.where(group == number, 0.0).sum(axes(maps, 1)) for number in range(groups)], dim=1
    )
    return sums, drops, group[0].flatten().bincount()
