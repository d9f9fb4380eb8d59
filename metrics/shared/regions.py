"""The regions of an image's classes, and the share of a map in them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from axiom_bench.cutting.threads import one_thread
from axiom_bench.errors import BenchError
from axiom_bench.explanation.explanation import AnnotatedObjects, Explanation, required_field


@one_thread()
def energy_of_class(explanation: Explanation, region: str) -> Tensor:
    """Return the heatmap's sum over the region of the explained class.

    Args:
        explanation: The explanation, with its heatmap (B, H', W') and the region.
        region: "boxes" for the union of the class's boxes, where a pixel counts by its centre.
            "cells" for the class's cells of a mosaic. "masks" for its mask.

    Returns:
        The sums, (B,) in float64.

    Raises:
        BenchError: If the region is unknown.
    """
    maps = explanation.required_heatmap.cpu()
    if region == "masks":
        inside = list(explanation.required_masks.cpu())
    elif region in ("boxes", "cells"):
        boxes_of_rows = explanation.boxes if region == "boxes" else explanation.cells
        inside = [union(boxes, maps.shape[1:]) for boxes in required_field(boxes_of_rows, region)]
    else:
        raise BenchError(f"A region is 'boxes', 'cells' or 'masks', not {region!r}.")
    return energy_in(explanation, inside)


@one_thread()
def energy_in(explanation: Explanation, inside: Iterable[Tensor]) -> Tensor:
    """Return the heatmap's sum over a region of each row.

    Args:
        explanation: The explanation, with its heatmap (B, H', W').
        inside: The region of each row, bool (H', W').

    Returns:
        The sums, (B,) in float64.
    """
    maps = explanation.required_heatmap.cpu()
    energies = []
    for heatmap, region in zip(maps, inside, strict=True):
        energies.append(_energy(heatmap, region.cpu()))
    return torch.stack(energies)


@one_thread()
def other_energies(explanation: Explanation, region: str) -> list[dict[int, float]]:
    """Return the heatmap's sum over the region of each other class of the image.

    Args:
        explanation: The explanation, with its heatmap (B, H', W') and the objects of each image.
        region: "masks" for the classes' masks, otherwise their boxes.

    Returns:
        The sums by class, for each row.
    """
    maps = explanation.required_heatmap.cpu()
    others = required_field(explanation.others, "others")
    return [
        _energies(heatmap, objects, region) for heatmap, objects in zip(maps, others, strict=True)
    ]


def union(boxes: Tensor, size: Sequence[int]) -> Tensor:
    """Return the pixels whose centre lies in one of the boxes.

    Args:
        boxes: The boxes in pixels, (n, 4).
        size: The image's height and width.

    Returns:
        The pixels, bool (H', W').
    """
    inside = torch.zeros(*size, dtype=torch.bool)
    # The number of the first centre at an edge or beyond it.
    first_centres = (boxes.cpu().double() - 0.5).ceil()
    starts, ends = first_centres.clamp(0, max(size)).long().chunk(2, 1)
    # Boxes have the last axis first, tensors the first.
    rows = zip(starts.flip(1).tolist(), ends.flip(1).tolist(), strict=True)
    for box_starts, box_ends in rows:
        inside[tuple(map(slice, box_starts, box_ends))] = True
    return inside


@one_thread()
def energy(explanation: Explanation) -> Tensor:
    """Return the heatmap's sum, computed once: (B,) in float64."""
    maps = explanation.required_heatmap

    def sums() -> Tensor:
        return torch.stack([heatmap.sum(dtype=torch.float64) for heatmap in maps.cpu()])

    return explanation.once("energy", sums)


def leakage(explanation: Explanation, elsewhere: Iterable[Tensor]) -> Tensor:
    """Return sum of h in other boxes, outside the explained object's / sum of h.

    Args:
        explanation: The explanation, with its heatmap h (B, H', W') and its object's boxes.
        elsewhere: The other boxes of each row, (n, 4).

    Returns:
        The shares, (B,) in float64.
    """
    maps = explanation.required_heatmap
    size = maps.shape[1:]
    outside = []
    for other_boxes, boxes in zip(elsewhere, explanation.required_boxes, strict=True):
        outside.append(union(other_boxes, size) & ~union(boxes, size))
    return energy_in(explanation, outside) / energy(explanation)


def _energy(heatmap: Tensor, inside: Tensor) -> Tensor:
    """Return one image's sum over the pixels inside, since a batch's copies leave the cache."""
    return heatmap.where(inside, 0.0).sum(dtype=torch.float64)


def _energies(heatmap: Tensor, objects: AnnotatedObjects, region: str) -> dict[int, float]:
    """Return the sum of one heatmap over the region of each class: {class: energy}."""
    if region == "masks":
        mask = torch.tensor(-1) if objects.mask is None else objects.mask.cpu()
        regions = {label: mask == label for label in mask.unique().tolist() if label >= 0}
    else:
        labels = objects.labels.unique().tolist()
        regions = {label: union(objects.boxes_of(label), heatmap.shape) for label in labels}
    return {label: float(_energy(heatmap, inside)) for label, inside in regions.items()}


def share_inside(explanation: Explanation, region: str) -> Tensor:
    """Return sum of h inside the region / sum of h.

    Args:
        explanation: The explanation, with its heatmap h (B, H', W') and the region.
        region: "boxes", "cells" or "masks"; see `energy_of_class`. With masks, pixels without a
            verdict are left out of both sums.

    Returns:
        The shares, (B,) in [0, 1], float64. They are NaN for a zero map.

    Raises:
        BenchError: If the region is unknown.
    """
    total = energy(explanation)
    if region == "masks" and explanation.ignored is not None:
        total = total - energy_in(explanation, explanation.ignored)
    return energy_of_class(explanation, region) / total
