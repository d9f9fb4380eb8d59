"""A heatmap at many thresholds, in one pass over its pixels: what box and mask metrics share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from axiom_bench.cutting.threads import in_threads
from axiom_bench.errors import BenchError
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.shared.pixel_order import pixel_keys
from axiom_bench.metrics.shared.rounding import MILLION, millionths

COUNT = 100
FRACTIONS = tuple(
    step / COUNT for step in range(COUNT)
)  # of the maximum; pixels above, not at, them are taken
BEST = "best"


class Boxes(NamedTuple):
    """largest: (B, T, 4) int32, the box around the largest region above each threshold, x0 y0 x1
    y1, far edges exclusive, zeros where no pixel is above. iou: (B, T) its best IoU with a true
    box. best_iou: (B, T) the best of all regions' boxes.

    Of equally large regions the first in reading order. IoU is 0 where no pixel is above, NaN
    without a true box.
    """

    largest: np.ndarray
    iou: np.ndarray
    best_iou: np.ndarray


class Pixels(NamedTuple):
    """above: (B, 101) int64, pixels above 0.99, 0.98, ... 0, and last all pixels. hit: those of
    them in the mask.

    Pixels without a verdict don't count.
    """

    above: np.ndarray
    hit: np.ndarray


def check_fraction(fraction: float | str) -> None:
    """Raises BenchError for anything but "best" and a fraction of the maximum that a pixel can be
    above.
    """
    if fraction != BEST and (isinstance(fraction, str) or not 0 <= fraction < 1):
        raise BenchError(
            f"The fraction of the maximum is a number from 0 to below 1 or {BEST!r}, not "
            f"{fraction!r}."
        )


def counted_pixels(explanation: Explanation) -> np.ndarray:
    """The pixels on which masks have a verdict: (B, H', W') bool."""
    masks = explanation.required_masks
    return (
        np.ones(masks.shape, bool)
        if explanation.ignored is None
        else ~explanation.ignored.cpu().numpy()
    )


def check_connectivity(connectivity: int) -> None:
    """Raises BenchError for anything but 8 (diagonals touch) and 4."""
    if connectivity not in (4, 8):
        raise BenchError(f"The connectivity of regions is 4 or 8, not {connectivity!r}.")


def steps_above(explanation: Explanation) -> np.ndarray:
    """How many of FRACTIONS each pixel is above: (B, H', W') uint16; computed once."""

    def steps() -> np.ndarray:  # FRACTIONS are even: no search is needed
        levels = millionths(explanation)
        passed: np.ndarray = (levels.clip(0, MILLION) * COUNT + MILLION - 1) // MILLION
        return passed.astype(np.uint16)

    return explanation.once("steps above", steps)


def boxes_above(explanation: Explanation, connectivity: int = 8) -> Boxes:
    """The regions above each of FRACTIONS against the class's boxes; computed once an explanation.

    connectivity: 8 (diagonals touch) or 4. Raises BenchError for another.
    """
    check_connectivity(connectivity)
    return explanation.once(
        ("boxes above", connectivity), lambda: _boxes(explanation, connectivity)
    )


def pixels_above(explanation: Explanation) -> Pixels:
    """Pixels above each of FRACTIONS, highest first, and those of them in the mask; computed
    once.
    """
    return explanation.once(
        "pixels above",
        lambda: Pixels(*counts_from_the_top(explanation, steps_above(explanation), COUNT + 1)),
    )


def _boxes(explanation: Explanation, connectivity: int) -> Boxes:
    from axiom_bench.metrics.shared import (
        union_find,
    )  # here, because numba takes a third of a second to import

    steps = steps_above(explanation)
    boxes = explanation.required_boxes
    joins = union_find.joins(connectivity)

    def swept(
        map_steps: np.ndarray, true_boxes: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        curves: tuple[np.ndarray, np.ndarray, np.ndarray] = union_find.sweep(
            map_steps, COUNT, joins, true_boxes, union_find.PIXELS
        )
        return curves

    rows = in_threads(
        swept, steps, [true_boxes.detach().cpu().double().numpy() for true_boxes in boxes]
    )
    largest, iou, best_iou = (np.stack(part) for part in zip(*rows, strict=True))
    missing = np.array([[len(true_boxes) == 0] for true_boxes in boxes])
    return Boxes(largest, np.where(missing, np.nan, iou), np.where(missing, np.nan, best_iou))


def counts_from_the_top(
    explanation: Explanation, steps: Iterable[np.ndarray], count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Pixels from each step on, and those of them in the mask: two (B, count), the highest step
    first, last all pixels.

    steps: of each row's pixels, whole numbers (H', W') from 0 to count - 1. Pixels without a
    verdict don't count.
    """
    rows = zip(
        steps, explanation.required_masks.cpu().numpy(), counted_pixels(explanation), strict=True
    )
    counts = [
        np.bincount((2 * row + mask)[counted], minlength=2 * count).reshape(count, 2)
        for row, mask, counted in rows
    ]
    outside, hit = np.moveaxis(np.array(counts)[:, ::-1].cumsum(1), 2, 0)
    return outside + hit, hit


def highest_in_mask(explanation: Explanation, counts: np.ndarray) -> np.ndarray:
    """(B,) int -> (B,) int: how many of the counts[i] highest pixels of map i lie in its mask.

    See `shared.pixel_order` for the order of equal pixels. Pixels without a verdict are passed
    over.
    """
    keys = pixel_keys(explanation).cpu().numpy()
    masks = explanation.required_masks.cpu().numpy()
    rows = zip(keys, masks, counted_pixels(explanation), counts, strict=True)
    return np.array(
        [_hits(of_map[counted], mask[counted], count) for of_map, mask, counted, count in rows]
    )


def _hits(keys: np.ndarray, inside: np.ndarray, count: int) -> int:
    """How many of the `count` highest of n pixels, in reading order, are inside. keys: (n,) int.
    inside: (n,) bool.
    """
    if count == 0 or count >= len(keys):
        return int(np.count_nonzero(inside)) if count else 0
    lowest = np.partition(keys, -count)[-count]  # of the highest
    above = keys > lowest
    equal = np.flatnonzero(keys == lowest)[: count - np.count_nonzero(above)]
    return int(np.count_nonzero(above & inside) + np.count_nonzero(inside[equal]))
