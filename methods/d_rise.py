"""D-RISE: Petsiuk et al., Black-box Explanation of Object Detectors via Saliency Maps, CVPR 2021,
arXiv:2006.03204.
"""

from __future__ import annotations

from functools import reduce
from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor

from axiom_bench.cutting.numerics import resized
from axiom_bench.cutting.objects import boxes_of, network_of, regions_of, returned_of
from axiom_bench.cutting.output_presets import intersection_over_union
from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import BenchError
from axiom_bench.explanation.explanation import Map
from axiom_bench.methods.shared.masking import minmax, pass_slices


def d_rise(trace: Trace, masks: int = 1000, grid: int = 8, kept: float = 0.5, seed: int = 0) -> Map:
    """sum_i w_i M_i over random masks M_i, w_i = max_j IoU(L, L_j) cos(P, P_j) O_j, min-max scaled
    -> (B, H', W').

    L and P: the explained box and its class probabilities. j: all positions of the network for X
    M_i. O_j: the highest probability of a class, since these networks have no objectness; the paper
    leaves it out then, and of boxes before suppression any could count. It is of the detection:
    another class at its position has the same map. A region doesn't move, so w_i is the mean of its
    class's probability.

    M_i: grid x grid cells, each kept with the probability `kept`, enlarged bilinearly and shifted
    by less than a cell. They are seeded by the original image and `seed`, so that all objects of an
    image share masks and passes. X: the image as the network takes it, where the paper has pixels,
    so 0 is the mean colour and not black. Costs `masks` forward passes. Raises BenchError for a
    network without objects, masks < 1, grid < 1, and kept outside (0, 1).
    """
    if masks < 1 or grid < 1:
        raise BenchError(f"Invalid masks={masks} and grid={grid}; give both as numbers from 1.")
    if not 0 < kept < 1:
        raise BenchError(
            f"Invalid kept={kept}; give the probability that a cell is kept, between 0 and 1."
        )
    regions = regions_of(trace)
    places = boxes_of(trace) if regions is None else regions
    pixels = (
        trace.images
        if trace.first_images is None
        else torch.cat([trace.images, trace.first_images], 1)
    )
    _, counts = pixels.unique_consecutive(return_counts=True, dim=0)

    @torch.inference_mode(False)
    @torch.no_grad()
    def sums(rows: list[int]) -> Tensor:
        """Of rows of one image: (n, H', W')."""
        image, (generator,) = (
            trace.images[rows[0]],
            trace.generators(seed, slice(rows[0], rows[0] + 1)),
        )
        cells = torch.rand(masks, grid, grid, generator=generator, dtype=torch.float64) < kept
        shifts = torch.rand(masks, 2, generator=generator, dtype=torch.float64)

        def drawn(copies: slice) -> Tensor:
            return _masks(cells[copies].to(image), shifts[copies], image.shape[1:])

        def weights(copies: slice) -> Tensor:
            returned = returned_of(trace, image * drawn(copies)[:, None])
            return _weights(trace, rows, places, returned)

        def weighted(copies: slice) -> Tensor:
            flat = drawn(copies).flatten(1)
            return torch.stack([of_row[copies] @ flat for of_row in of_rows])

        slices = [*pass_slices(trace, masks)]
        of_rows = torch.cat([*map(weights, slices)], 1)
        return reduce(torch.add, map(weighted, slices)).unflatten(1, image.shape[1:])

    rows = torch.arange(len(trace)).split(counts.tolist())
    return Map(minmax(torch.cat([sums(each.tolist()) for each in rows])))


def _masks(cells: Tensor, shifts: Tensor, size: torch.Size) -> Tensor:
    """Cells (n, grid, grid) as RISE enlarges them, to one cell more than the image has: (n, H',
    W').
    """
    grid = cells.shape[-1]
    sides = torch.tensor([-(-side // grid) for side in size])
    corners = (shifts * sides).long().tolist()
    enlarged = resized(cells, ((grid + 1) * sides).tolist())
    return torch.stack(
        [
            each[y : y + size[0], x : x + size[1]]
            for each, (y, x) in zip(enlarged, corners, strict=True)
        ]
    )


def _weights(trace: Trace, rows: list[int], places: Tensor, returned: Any) -> Tensor:
    """Of rows of one image, by what the network returns for its n masked copies: (rows, n)."""
    model = network_of(trace)
    if isinstance(returned, Tensor):
        of_classes = model.probabilities(returned.to(trace.dtype), 1)
        means = (
            (of_classes[:, trace.targets[row]] * places[row]).sum((1, 2)) / places[row].sum()
            for row in rows
        )
        return torch.stack([*means])
    boxes, logits = (each.to(trace.dtype) for each in returned)
    probabilities, of_targets = (
        model.probabilities(logits, 2),
        model.probabilities(trace.logits[rows], 1),
    )
    if model.background is not None:
        probabilities[..., model.background] = of_targets[:, model.background] = 0
    least = torch.finfo(trace.dtype).tiny
    unit, units_of_targets = (
        functional.normalize(each, dim=-1, eps=least) for each in (probabilities, of_targets)
    )
    highest = probabilities.amax(2)
    overlaps = (intersection_over_union(places[row][None], boxes)[:, 0] for row in rows)
    both = zip(overlaps, units_of_targets, strict=True)
    return torch.stack(
        [(overlap * (unit @ of_target * highest)).amax(1) for overlap, of_target in both]
    )
