"""A heatmap at many thresholds in one pass over its pixels, for box and mask metrics."""

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
# Fractions of the maximum. A pixel at a fraction isn't above it.
FRACTIONS = tuple(step / COUNT for step in range(COUNT))
BEST = "best"


class Boxes(NamedTuple):
    """The boxes of regions above each of T thresholds, compared with the true boxes.

    The IoU are 0 if no pixel is above the threshold, and NaN without a true box.
    """

    largest: np.ndarray
    """(B, T, 4) int32: the box x0 y0 x1 y1 around the largest region, far edges exclusive. Of
    equally large regions, the first in reading order counts. Zeros if no pixel is above."""
    iou: np.ndarray
    """(B, T): the best IoU of that box with a true box."""
    best_iou: np.ndarray
    """(B, T): the best IoU of all regions' boxes."""


class Pixels(NamedTuple):
    """The numbers of pixels above each threshold, highest first.

    Pixels without a verdict don't count.
    """

    above: np.ndarray
    """(B, 101) int64: the pixels above 0.99, 0.98, ... 0, and last all pixels."""
    hit: np.ndarray
    """(B, 101) int64: those of them in the mask."""


def check_fraction(fraction: float | str) -> None:
    """Check that a pixel can be above a fraction of the maximum.

    Args:
        fraction: The fraction, or "best".

    Raises:
        BenchError: If the fraction is neither "best" nor from 0 to below 1.
    """
    if fraction != BEST and (isinstance(fraction, str) or not 0 <= fraction < 1):
        raise BenchError(
            f"The fraction of the maximum is a number from 0 to below 1 or {BEST!r}, not "
            f"{fraction!r}."
        )


def counted_pixels(explanation: Explanation) -> np.ndarray:
    """Return the pixels on which masks have a verdict.

    Args:
        explanation: The explanation, with the class's mask.

    Returns:
        The pixels, bool (B, H', W').
    """
    masks = explanation.required_masks
    if explanation.ignored is None:
        return np.ones(masks.shape, bool)
    return ~explanation.ignored.cpu().numpy()


def check_connectivity(connectivity: int) -> None:
    """Check the connectivity of regions.

    Args:
        connectivity: 8 if pixels that touch at a corner are connected, otherwise 4.

    Raises:
        BenchError: If the connectivity is neither 8 nor 4.
    """
    if connectivity not in (4, 8):
        raise BenchError(f"The connectivity of regions is 4 or 8, not {connectivity!r}.")


def steps_above(explanation: Explanation) -> np.ndarray:
    """Return how many of FRACTIONS each pixel is above, computed once.

    Args:
        explanation: The explanation, with its heatmap (B, H', W').

    Returns:
        The numbers, uint16 (B, H', W').
    """

    def steps() -> np.ndarray:
        # The fractions are evenly spaced, so a division replaces a search.
        levels = millionths(explanation)
        passed: np.ndarray = (levels.clip(0, MILLION) * COUNT + MILLION - 1) // MILLION
        return passed.astype(np.uint16)

    return explanation.once("steps above", steps)


def boxes_above(explanation: Explanation, connectivity: int = 8) -> Boxes:
    """Return the regions above each of FRACTIONS against the class's boxes, computed once.

    Args:
        explanation: The explanation, with its heatmap (B, H', W') and the class's boxes.
        connectivity: 8 if pixels that touch at a corner are connected, otherwise 4.

    Returns:
        The boxes and their IoU.

    Raises:
        BenchError: If the connectivity is neither 8 nor 4.
    """
    check_connectivity(connectivity)
    return explanation.once(
        ("boxes above", connectivity), lambda: _boxes(explanation, connectivity)
    )


def pixels_above(explanation: Explanation) -> Pixels:
    """Return the pixels above each of FRACTIONS, and those of them in the mask, computed once.

    Args:
        explanation: The explanation, with its heatmap (B, H', W') and the class's mask.

    Returns:
        The numbers of pixels, the highest fraction first.
    """

    def pixels() -> Pixels:
        above, hit = counts_from_the_top(explanation, steps_above(explanation), COUNT + 1)
        return Pixels(above, hit)

    return explanation.once("pixels above", pixels)


def _boxes(explanation: Explanation, connectivity: int) -> Boxes:
    """Compute the boxes of `boxes_above`."""
    # Imported only when it is needed, because numba takes a third of a second.
    from axiom_bench.metrics.shared import union_find

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

    arrays = [true_boxes.detach().cpu().double().numpy() for true_boxes in boxes]
    rows = in_threads(swept, steps, arrays)
    largest, iou, best_iou = (np.stack(part) for part in zip(*rows, strict=True))
    missing = np.array([[len(true_boxes) == 0] for true_boxes in boxes])
    iou = np.where(missing, np.nan, iou)
    best_iou = np.where(missing, np.nan, best_iou)
    return Boxes(largest, iou, best_iou)


def counts_from_the_top(
    explanation: Explanation, steps: Iterable[np.ndarray], count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Count the pixels from each step on, and those of them in the mask.

    Pixels without a verdict don't count.

    Args:
        explanation: The explanation, with the class's mask (B, H', W').
        steps: The step of each row's pixels, whole numbers (H', W') from 0 to count - 1.
        count: The number of steps.

    Returns:
        The pixels and those in the mask, (B, count) each. The highest step is first, and last are
        all pixels.
    """
    masks = explanation.required_masks.cpu().numpy()
    counts = []
    for row_steps, mask, is_counted in zip(steps, masks, counted_pixels(explanation), strict=True):
        # One histogram of both: even bins are outside of the mask, odd ones inside.
        bins = (2 * row_steps + mask)[is_counted]
        counts.append(np.bincount(bins, minlength=2 * count).reshape(count, 2))
    highest_first = np.array(counts)[:, ::-1]
    outside, hit = np.moveaxis(highest_first.cumsum(1), 2, 0)
    return outside + hit, hit


def highest_in_mask(explanation: Explanation, counts: np.ndarray) -> np.ndarray:
    """Count how many of the highest pixels of each map lie in its mask.

    See `shared.pixel_order` for the order of equal pixels. Pixels without a verdict are left out.

    Args:
        explanation: The explanation, with its heatmap (B, H', W') and the class's mask.
        counts: How many of the highest pixels are looked at, integers (B,).

    Returns:
        The numbers, integers (B,).
    """
    keys = pixel_keys(explanation).cpu().numpy()
    masks = explanation.required_masks.cpu().numpy()
    hits = []
    rows = zip(keys, masks, counted_pixels(explanation), counts, strict=True)
    for map_keys, mask, is_counted, count in rows:
        hits.append(_hits(map_keys[is_counted], mask[is_counted], count))
    return np.array(hits)


def _hits(keys: np.ndarray, inside: np.ndarray, count: int) -> int:
    """Count how many of the `count` highest of n pixels, in reading order, are inside."""
    if count == 0:
        return 0
    if count >= len(keys):
        return int(np.count_nonzero(inside))
    lowest = np.partition(keys, -count)[-count]  # the lowest of the highest
    above = keys > lowest
    equal = np.flatnonzero(keys == lowest)[: count - np.count_nonzero(above)]
    return int(np.count_nonzero(above & inside) + np.count_nonzero(inside[equal]))
