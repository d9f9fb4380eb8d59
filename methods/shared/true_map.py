"""The true map, for networks and images whose right explanation is known, and ways to spoil it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from axiom_bench.cutting.interventions import Part
from axiom_bench.cutting.numerics import XY, dead_channels
from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import BenchError, InvalidParameter


def true_map(trace: Trace) -> Tensor:
    """Return what each position truly contributes to the score, signed.

    If the network reports its true contributions, the map is their sum over channels. Otherwise,
    if the images have interventions, each part's Shapley value is spread evenly over its region,
    so that the map sums to the Shapley values.

    Args:
        trace: The trace of the batch.

    Returns:
        The map, (B, H, W) from contributions, or (B, H', W') from parts.

    Raises:
        BenchError: If neither is known.
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
    """Return a map with each part's value spread evenly over its region.

    Args:
        trace: The trace of images with interventions.
        values: The values of the parts, (n_parts,) for each image.

    Returns:
        The maps, (B, H', W').
    """
    assert trace.interventions is not None
    empty = trace.images.new_zeros(trace.images.shape[-2:])
    maps = []
    for parts, part_values in zip(trace.interventions, values, strict=True):
        densities = [_density(part, value) for part, value in zip(parts, part_values, strict=True)]
        maps.append(sum(densities, empty))
    return torch.stack(maps)


def _density(part: Part, value: Tensor) -> Tensor:
    """Return the value divided by the region's area in the region, and 0 elsewhere: (H', W')."""
    region = part.region.to(value)
    # a part without pixels has an area of 0 and appears nowhere
    return value / region.sum().clamp(min=1) * region


def mix_with_truth(truth: Tensor, spoil: Tensor, degree: float) -> Tensor:
    """Return (1 - degree) truth + degree spoil, with the spoil scaled to the truth's norm.

    The norm is the Euclidean one. The distance to the truth is `degree` times a constant of the
    image. So a higher degree is always further away.

    Args:
        truth: The true values, (B, ...).
        spoil: The values to mix in, (B, ...).
        degree: The share of the spoil, from 0 to 1.

    Returns:
        The mixture, (B, ...).
    """
    return (1 - degree) * truth + degree * scaled_to_norm(truth, spoil)


def scaled_to_norm(truth: Tensor, spoil: Tensor) -> Tensor:
    """Return the spoil scaled per row to the truth's Euclidean norm; zeros stay zeros.

    Args:
        truth: The true values, (B, ...).
        spoil: The values to scale, (B, ...).

    Returns:
        The scaled spoil, (B, ...).
    """
    truth_norm = truth.flatten(1).norm(dim=1)
    spoil_norm = spoil.flatten(1).norm(dim=1)
    divisor = spoil_norm.clamp(min=torch.finfo(spoil.dtype).tiny)
    factors = torch.where(spoil_norm > 0, truth_norm / divisor, spoil_norm)
    return spoil * factors.view(-1, *(1 for _ in spoil.shape[1:]))


def check_degree(degree: float) -> float:
    """Return the degree itself if it is valid.

    Args:
        degree: The share of the spoil, from 0, the truth, to 1.

    Raises:
        BenchError: If the degree is outside [0, 1].
    """
    if not 0 <= degree <= 1:
        raise InvalidParameter(
            f"Invalid degree={degree}; give a number from 0, the truth, to 1, nothing of it."
        )
    return degree


def weights_from_totals(totals: Tensor, activations: Tensor) -> Tensor:
    """Return w = m_k F_k / sum_xy F_k^2, whose contributions w F add up to m_k in each channel.

    Unlike a division by sum_xy F_k, the formula needs no guard for channels whose values cancel.

    Args:
        totals: The totals m, (B, K).
        activations: The activations F, (B, K, H, W).

    Returns:
        The weights, (B, K, H, W), 0 in dead channels.
    """
    energy = activations.square().sum(XY, keepdim=True)
    divisor = torch.where(energy == 0, torch.ones_like(energy), energy)
    return activations * (totals[..., None, None] / divisor)


def permute_live_totals(
    totals: Tensor, activations: Tensor, draws: Sequence[torch.Generator]
) -> Tensor:
    """Return each live channel's total handed to another channel, all in one drawn circle.

    Dead channels keep their totals, and so does a channel that is the only live one.

    Args:
        totals: A total per channel, (B, K).
        activations: The activations, (B, K, H, W), which say which channels are dead.
        draws: A random generator for each image.

    Returns:
        The permuted totals, (B, K).
    """
    rows = []
    for row, is_dead, generator in zip(totals, dead_channels(activations), draws, strict=True):
        live = (~is_dead).nonzero()[:, 0]
        circle = live[torch.randperm(len(live), generator=generator).to(live.device)]
        rows.append(row.index_copy(0, circle, row[circle.roll(1)]))
    return torch.stack(rows)
