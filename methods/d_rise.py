"""D-RISE: Petsiuk et al., CVPR 2021, arXiv:2006.03204.

Black-box Explanation of Object Detectors via Saliency Maps.
"""

from __future__ import annotations

from functools import reduce
from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor

from axiom_bench.cutting.objects import (
    network_results,
    object_network,
    scored_boxes,
    scored_regions,
)
from axiom_bench.cutting.output_presets import intersection_over_union
from axiom_bench.cutting.trace import Trace
from axiom_bench.explanation.explanation import Map
from axiom_bench.methods.shared.masking import minmax, pass_slices
from axiom_bench.methods.shared.random_masks import check_masks, draw_masks


def d_rise(trace: Trace, masks: int = 1000, grid: int = 8, kept: float = 0.5, seed: int = 0) -> Map:
    """Sum of w_i M_i over random masks, w_i = max_j IoU(L, L_j) cos(P, P_j) O_j -> (B, H', W').

    L and P are the explained box and its class probabilities, and j runs over all positions of the
    network for the masked image X M_i. O_j is the highest probability of a class, since these
    networks have no objectness. The paper leaves O_j out in this case, but then any box before
    suppression could count. The map is min-max scaled. It explains the detection: another class at
    the same position has the same map. A region doesn't move, so its w_i is the mean probability
    of its class.

    M_i are grid x grid cells, enlarged bilinearly and shifted by less than a cell. They are seeded
    by the original image and `seed`, so that all objects of an image share masks and passes. X is
    the image as the network takes it. So 0 is the mean colour, not black as in the paper, which
    masks pixels. Costs `masks` forward passes.

    Args:
        trace: The traced batch of a network with boxes or masks.
        masks: The number of random masks, at least 1.
        grid: The number of cells per side of a mask, at least 1.
        kept: The probability that a cell is kept, between 0 and 1.
        seed: The seed of the masks.

    Returns:
        The map, (B, H', W').

    Raises:
        BenchError: If the network has no objects, or if a number is outside its range.
    """
    check_masks(masks, grid, kept)
    regions = scored_regions(trace)
    objects = scored_boxes(trace) if regions is None else regions

    # Consecutive rows with equal pixels are objects of one image, which share their masks.
    pixels = trace.images
    if trace.first_images is not None:
        pixels = torch.cat([trace.images, trace.first_images], 1)
    _, counts = pixels.unique_consecutive(return_counts=True, dim=0)

    @torch.inference_mode(False)
    @torch.no_grad()
    def weighted_sums(rows: list[int]) -> Tensor:
        """Return the sums over masks for rows of one image: (n, H', W')."""
        image = trace.images[rows[0]]
        image_masks = draw_masks(trace, rows[0], masks, grid, kept, seed)
        slices = list(pass_slices(trace, masks))
        parts = []
        for copies in slices:
            outputs = network_results(trace, image * image_masks[copies][:, None])
            parts.append(_weights(trace, rows, objects, outputs))
        weights = torch.cat(parts, 1)

        # Masks are made a second time, and sums are added one by one, to save memory.
        def partial_sums(copies: slice) -> Tensor:
            flat_masks = image_masks[copies].flatten(1)
            return torch.stack([row_weights[copies] @ flat_masks for row_weights in weights])

        summed: Tensor = reduce(torch.add, map(partial_sums, slices)).unflatten(1, image.shape[1:])
        return summed

    rows_by_image = torch.arange(len(trace)).split(counts.tolist())
    return Map(minmax(torch.cat([weighted_sums(rows.tolist()) for rows in rows_by_image])))


def _weights(trace: Trace, rows: list[int], objects: Tensor, outputs: Any) -> Tensor:
    """Return the weights of n masks for rows of one image: (rows, n).

    `outputs` are the network's outputs for the image's n masked copies.
    """
    model = object_network(trace)
    if isinstance(outputs, Tensor):  # a map of logits: the mean probability in the region
        probability_maps = model.probabilities(outputs.to(trace.dtype), 1)
        means = []
        for row in rows:
            region = objects[row]
            total = (probability_maps[:, trace.targets[row]] * region).sum((1, 2))
            means.append(total / region.sum())
        return torch.stack(means)
    boxes, logits = (output.to(trace.dtype) for output in outputs)
    probabilities = model.probabilities(logits, 2)
    explained = model.probabilities(trace.logits[rows], 1)
    if model.background is not None:
        probabilities[..., model.background] = 0
        explained[:, model.background] = 0
    tiny = torch.finfo(trace.dtype).tiny
    unit = functional.normalize(probabilities, dim=-1, eps=tiny)
    explained_units = functional.normalize(explained, dim=-1, eps=tiny)
    highest = probabilities.amax(2)
    weights = []
    for row, explained_unit in zip(rows, explained_units, strict=True):
        overlap = intersection_over_union(objects[row][None], boxes)[:, 0]
        weights.append((overlap * (unit @ explained_unit * highest)).amax(1))
    return torch.stack(weights)
