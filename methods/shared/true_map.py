"""Where the right explanation is known: the true map, mixtures of it with something else, and given
totals.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from axiom_bench.cutting.interventions import Part
from axiom_bench.cutting.numerics import XY, dead_channels
from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import BenchError


def true_map(trace: Trace) -> Tensor:
    """What each position truly contributes to the score, signed.

    sum_k of the true contributions, (B, H, W), where the network tells them. Otherwise, where the
    images have interventions, each part's Shapley value spread evenly over its region, so that the
    map sums to them: (B, H', W'). Raises BenchError where neither is known.
    """
    contributions = trace.true_contributions
    if contributions is not None:
        return contributions.sum(1)
    if trace.interventions is not None:
        return trace.once("true_map", lambda: map_of_parts(trace, trace.part_shapley_values))
    raise BenchError(
        "The truth is known for networks that tell their contributions, such as "
        "model=planted_additive, and for images with interventions, such as data=scenes."
    )


def map_of_parts(trace: Trace, values: Sequence[Tensor]) -> Tensor:
    """Each part's value spread evenly over its region: (B, H', W'). values: per row (n_parts,)."""
    assert trace.interventions is not None
    empty = trace.images.new_zeros(trace.images.shape[-2:])
    maps = [
        sum((_density(part, value) for part, value in zip(parts, of_image, strict=True)), empty)
        for parts, of_image in zip(trace.interventions, values, strict=True)
    ]
    return torch.stack(maps)


def _density(part: Part, value: Tensor) -> Tensor:
    """The value over the region's area in the region, 0 elsewhere: (H', W'); a part without pixels
    is nowhere.
    """
    region = part.region.to(value)
    return value / region.sum().clamp(min=1) * region


def mixed(truth: Tensor, spoil: Tensor, degree: float) -> Tensor:
    """(1 - degree) truth + degree spoil, each (B, ...), with the spoil scaled to the truth's
    Euclidean norm.

    The distance to the truth is `degree` times a constant of the image: a higher degree is further
    away for certain.
    """
    return (1 - degree) * truth + degree * like(truth, spoil)


def like(truth: Tensor, spoil: Tensor) -> Tensor:
    """The spoil with the truth's Euclidean norm, per row; all zeros stay zeros. Both (B, ...)."""
    sizes = [values.flatten(1).norm(dim=1) for values in (truth, spoil)]
    factors = torch.where(
        sizes[1] > 0, sizes[0] / sizes[1].clamp(min=torch.finfo(spoil.dtype).tiny), sizes[1]
    )
    return spoil * factors.view(-1, *(1 for _ in spoil.shape[1:]))


def checked(degree: float) -> float:
    """The degree itself. Raises BenchError unless it is from 0, the truth, to 1."""
    if not 0 <= degree <= 1:
        raise BenchError(
            f"Invalid degree={degree}; give a number from 0, the truth, to 1, nothing of it."
        )
    return degree


def weights_of_totals(totals: Tensor, activations: Tensor) -> Tensor:
    """Weights w = m_k F_k / sum_xy F_k^2, whose contributions w F add up to m_k in each channel.

    totals: m, (B, K). activations: F, (B, K, H, W). Returns (B, K, H, W), 0 in dead channels. It
    needs no guard where the values of a channel cancel, as a division by sum_xy F_k would.
    """
    energy = activations.square().sum(XY, keepdim=True)
    return activations * (
        totals[..., None, None] / torch.where(energy == 0, torch.ones_like(energy), energy)
    )


def permuted(totals: Tensor, activations: Tensor, draws: Sequence[torch.Generator]) -> Tensor:
    """Each live channel's total handed to another one, all in one drawn circle: (B, K) -> (B, K).

    Dead channels keep theirs, and so does a channel that is the only live one. draws: a generator
    for each image.
    """
    rows = []
    for row, dead, draw in zip(totals, dead_channels(activations), draws, strict=True):
        live = (~dead).nonzero()[:, 0]
        circle = live[torch.randperm(len(live), generator=draw).to(live.device)]
        rows.append(row.index_copy(0, circle, row[circle.roll(1)]))
    return torch.stack(rows)
