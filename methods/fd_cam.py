"""FD-CAM: Li et al., ICPR 2022, arXiv:2206.08792.

FD-CAM: Improving Faithfulness and Discriminability of Visual Explanation for CNNs.
"""

from __future__ import annotations

import torch
from torch import Tensor

from axiom_bench.cutting.numerics import axes, over_space
from axiom_bench.cutting.passes import pieces
from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import InvalidParameter


def fd_cam(trace: Trace, quantile: float = 0.95) -> Tensor:
    """w_k = exp(minmax(s_k)) minmax(mean(g_k)) - 1/2, s_k the group's score -> (B, K, 1, 1).

    s_k = S(F of k's group) + S - S(F without it). The group of a channel are the channels whose
    maps have a cosine with its map above the `quantile` of its K cosines. The cosines of a dead
    channel are 0. minmax scales over channels to [0, 1], and gives 0 if all are equal. Costs 2 K
    head passes.

    Args:
        trace: The traced batch, with activations F and gradients g, (B, K, H, W) each.
        quantile: The quantile of a channel's cosines, from 0 to 1.

    Returns:
        The weights, (B, K, 1, 1).

    Raises:
        BenchError: If the quantile is outside [0, 1].
    """
    if not 0 <= quantile <= 1:
        raise InvalidParameter(f"Invalid quantile={quantile}; give a number from 0 to 1.")
    with torch.inference_mode(False), torch.no_grad():
        groups = _groups(trace.activations, quantile)
        scores = trace.per_image(lambda row: _group_scores(trace, row, groups[row]))
    mean_gradients = trace.gradients.mean(axes(trace.gradients))
    weights = _minmax(scores).exp() * _minmax(mean_gradients) - 0.5
    return over_space(weights, trace.activations)


def _groups(activations: Tensor, quantile: float) -> Tensor:
    """Return the channels that are similar to each channel: bool (B, K, K)."""
    maps = activations.flatten(2)
    length = maps.norm(dim=2, keepdim=True)
    unit = maps / length.where(length > 0, 1)
    cosines = unit @ unit.mT
    is_above: Tensor = cosines > cosines.quantile(quantile, dim=2, keepdim=True)
    return is_above


def _group_scores(trace: Trace, image: int, groups: Tensor) -> Tensor:
    """Return S(F of the group) + S - S(F without it) of one image for groups (K, K): (K,)."""
    maps = trace.activations[image]
    target = int(trace.targets[image])
    kept_channels = torch.cat([groups, ~groups])
    scores = []
    for rows in pieces(len(kept_channels), trace.cut_model.limits.head_rows_at_once(maps)):
        kept_maps = over_space(kept_channels[rows], trace.activations) * maps
        scores.append(trace.head(kept_maps, torch.full((len(kept_maps),), image))[:, target])
    with_group, without_group = torch.cat(scores).chunk(2)
    return with_group + trace.scores[image] - without_group


def _minmax(values: Tensor) -> Tensor:
    """Return values (B, K) scaled to [0, 1] for each image; 0 if all are equal."""
    low = values.amin(1, keepdim=True)
    span = values.amax(1, keepdim=True) - low
    return (values - low) / span.where(span > 0, 1)
