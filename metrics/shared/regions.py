"""Where an image's classes lie, and how much of a map lies there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from axiom_bench.cutting.threads import one_thread
from axiom_bench.errors import BenchError
from axiom_bench.explanation.explanation import AnnotatedObjects, Explanation, given


@one_thread()
def energy_of_class(explanation: Explanation, region: str) -> Tensor:
    """The heatmap's sum over the region of the explained class: (B,) in float64.

    region "boxes": the union of the class's boxes, a pixel counting by its centre; "cells": of its
    cells of a mosaic; "masks": its mask. Raises BenchError for another region.
    """
    maps = explanation.required_heatmap.cpu()
    if region == "masks":
        inside = list(explanation.required_masks.cpu())
    elif region in ("boxes", "cells"):
        boxes_of_rows = explanation.boxes if region == "boxes" else explanation.cells
        inside = [union(boxes, maps.shape[1:]) for boxes in given(boxes_of_rows, region)]
    else:
        raise BenchError(f"A region is 'boxes', 'cells' or 'masks', not {region!r}.")
    return energy_in(explanation, inside)


@one_thread()
def energy_in(explanation: Explanation, inside: Iterable[Tensor]) -> Tensor:
    """The heatmap's sum over a region of each row, bool (H', W') each: (B,) in float64."""
    maps = explanation.required_heatmap.cpu()
    return torch.stack(
        [_energy(heatmap, region.cpu()) for heatmap, region in zip(maps, inside, strict=True)]
    )


@one_thread()
def other_energies(explanation: Explanation, region: str) -> list[dict[int, float]]:
    """Per row the heatmap's sum over the region of each other class of the image: {class:
    energy}.
    """
    maps = explanation.required_heatmap.cpu()
    others = given(explanation.others, "others")
    return [
        _energies(heatmap, objects, region) for heatmap, objects in zip(maps, others, strict=True)
    ]


def union(boxes: Tensor, size: Sequence[int]) -> Tensor:
    """(n, 4) boxes in pixels -> bool (H', W'): the pixels whose centre lies in one of them."""
    inside = torch.zeros(*size, dtype=torch.bool)
    first_centres = (
        (boxes.cpu().double() - 0.5).ceil().clamp(0, max(size)).long()
    )  # at an edge or beyond it
    for starts, ends in zip(
        *(corner.flip(1).tolist() for corner in first_centres.chunk(2, 1)), strict=True
    ):
        inside[tuple(map(slice, starts, ends))] = True
    return inside


@one_thread()
def energy(explanation: Explanation) -> Tensor:
    """The heatmap's sum: (B,) in float64, computed once."""
    maps = explanation.required_heatmap
    return explanation.once(
        "energy", lambda: torch.stack([row.sum(dtype=torch.float64) for row in maps.cpu()])
    )


def leakage(explanation: Explanation, elsewhere: Iterable[Tensor]) -> Tensor:
    """sum of h in other boxes, (n, 4) of each row, outside the explained object's / sum of h ->
    (B,), in float64.
    """
    maps = explanation.required_heatmap
    own = explanation.required_boxes
    pairs = zip(elsewhere, own, strict=True)
    outside = [
        union(others, maps.shape[1:]) & ~union(boxes, maps.shape[1:]) for others, boxes in pairs
    ]
    return energy_in(explanation, outside) / energy(explanation)


def _energy(heatmap: Tensor, inside: Tensor) -> Tensor:
    """The sum over the pixels inside, of one image: a batch's copies would leave the cache."""
    return heatmap.where(inside, 0.0).sum(dtype=torch.float64)


def _energies(heatmap: Tensor, objects: AnnotatedObjects, region: str) -> dict[int, float]:
    if region == "masks":
        mask = torch.tensor(-1) if objects.mask is None else objects.mask.cpu()
        regions = {label: mask == label for label in mask.unique().tolist() if label >= 0}
    else:
        regions = {
            label: union(objects.boxes_of(label), heatmap.shape)
            for label in objects.labels.unique().tolist()
        }
    return {label: float(_energy(heatmap, inside)) for label, inside in regions.items()}


def share_inside(explanation: Explanation, region: str) -> Tensor:
    """sum of h inside the region / sum of h -> (B,) in [0, 1], in float64; NaN for a zero map.

    region: "boxes", "cells" or "masks", see `energy_of_class`. With masks, pixels without a verdict
    are left out of both sums.
    """
    total = energy(explanation)
    if region == "masks" and explanation.ignored is not None:
        total = total - energy_in(explanation, explanation.ignored)
    return energy_of_class(explanation, region) / total
