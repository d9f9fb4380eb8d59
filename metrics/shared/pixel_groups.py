"""The pixels of a map in groups of equal number, in the map's order.

Each group has its sum of the map, and the drop without only this group.
"""

from __future__ import annotations

import torch
from torch import Tensor

from axiom_bench.cutting.numerics import axes
from axiom_bench.errors import BenchError
from axiom_bench.evaluation.queries import MetricGenerator
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.shared.perturbation import Perturbation, part_set_numbers
from axiom_bench.metrics.shared.pixel_order import ranks_of
from axiom_bench.metrics.shared.rounding import MILLION, scaled


def group_drops(
    explanation: Explanation, maps: Tensor, groups: int, perturbation: Perturbation, kind: str
) -> MetricGenerator[tuple[Tensor, Tensor, Tensor]]:
    """Ask for the map's sums, the model's drops and the pixels of each group, highest first.

    Args:
        explanation: The explanation, with its images and its trace.
        maps: The maps, (B, H', W'). Pixels equal to 1e-6 of the largest are in reading order.
        groups: The number of groups.
        perturbation: The replacement of a group's pixels, and the output.
        kind: A name for the maps, which distinguishes them from others.

    Returns:
        The sums and the drops, (B, groups) each, and the numbers of pixels, (groups,).

    Raises:
        BenchError: If there are less than two groups, or more groups than pixels.
    """
    pixels = maps[0].numel()
    if not 2 <= groups <= pixels:
        raise BenchError(
            f"There are 2 groups of pixels or more, and no more than pixels, not groups={groups}."
        )
    keys = (scaled(maps).flatten(1) * MILLION).round().nan_to_num(0, 0, 0)
    ranks = ranks_of(keys, "highest")
    group = (ranks * groups // pixels).view_as(maps)  # the number of each pixel's group
    numbers = torch.arange(groups, device=group.device)

    def removed(rows: slice, copies: slice) -> Tensor:
        return torch.stack([group[rows] == number for number in numbers[copies]], 1)

    same = ("one part filled", part_set_numbers(group, groups))
    scores = yield perturbation.request(explanation, (kind, groups), groups, removed, same=same)
    drops = perturbation.image_confidence(explanation) - scores
    space = axes(maps, 1)
    sums = [maps.where(group == number, 0.0).sum(space) for number in range(groups)]
    return torch.stack(sums, dim=1), drops, group[0].flatten().bincount()
