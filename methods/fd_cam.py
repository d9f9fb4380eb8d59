"""FD-CAM: Li et al., Improving Faithfulness and Discriminability of Visual Explanation, ICPR 2022,
arXiv:2206.08792.
"""

from __future__ import annotations

import torch
from torch import Tensor

from axiom_bench.cutting.numerics import axes, over_space
from axiom_bench.cutting.passes import pieces
from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import BenchError


def fd_cam(trace: Trace, quantile: float = 0.95) -> Tensor:
    """w_k = exp(minmax(s_k)) minmax(mean(g_k)) - 1/2, s_k = S(F of k's group) + S - S(F without it)
    -> (B, K, 1, 1).

    The group of a channel: those whose maps have a cosine with its map above the `quantile` of its
    K cosines, which are 0 for a dead channel. minmax: over channels, to [0, 1]; 0 where all are
    equal. Costs 2 K head passes. Raises BenchError for a quantile outside [0, 1].
    """
    if not 0 <= quantile <= 1:
        raise BenchError(f"Invalid quantile={quantile}; give a number from 0 to 1.")
    with torch.inference_mode(False), torch.no_grad():
        groups = _groups(trace.activations, quantile)
        scores = trace.per_image(lambda row: _switched(trace, row, groups[row]))
    weights = _minmax(scores).exp() * _minmax(trace.gradients.mean(axes(trace.gradients))) - 0.5
    return over_space(weights, trace.activations)


def _groups(activations: Tensor, quantile: float) -> Tensor:
    """The channels that are similar to each channel: (B, K, H, W) -> bool (B, K, K)."""
    maps = activations.flatten(2)
    length = maps.norm(dim=2, keepdim=True)
    unit = maps / length.where(length > 0, 1)
    cosines = unit @ unit.mT
    return cosines > cosines.quantile(quantile, dim=2, keepdim=True)


def _switched(trace: Trace, image: int, groups: Tensor) -> Tensor:
    """S(F of the group) + S - S(F without it) of one image for groups (K, K): (K,)."""
    maps, target = trace.activations[image], int(trace.targets[image])
    kept = torch.cat([groups, ~groups])
    parts = []
    for rows in pieces(len(kept), trace.cut_model.limits.head_rows_at_once(maps)):
        switched = over_space(kept[rows], trace.activations) * maps
        parts.append(trace.head(switched, torch.full((len(switched),), image))[:, target])
    alone, without = torch.cat(parts).chunk(2)
    return alone + trace.scores[image] - without


def _minmax(values: Tensor) -> Tensor:
    """(B, K) scaled to [0, 1] for each image; 0 where all are equal."""
    low = values.amin(1, keepdim=True)
    span = values.amax(1, keepdim=True) - low
    return (values - low) / span.where(span > 0, 1)
