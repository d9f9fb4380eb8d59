"""Differences between two methods, row by row and image by image, and the methods that coincide.

All functions take many pairs at once: (images, pairs), NaN where an image has no pair of values. A mean or median
difference and its interval are over rows, as the means and medians that they stand beside.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from axiom_bench.statistics.bootstrap import Floats, Integers, mean_intervals, median_intervals
from axiom_bench.statistics.numbers import FLOAT32_ROUNDING

RELATIVE_TIE = 1e-5  # of the larger value: what another batch size may change in float32
AT_ONCE = 2**9  # rows, or the square root of the differences, that fit into a processor's cache
FEW = 100


def are_equal(first: Floats, second: Floats) -> NDArray[np.bool_]:
    """Whether values are equal but for float32's rounding."""
    larger = np.maximum(np.abs(first), np.abs(second))
    return np.asarray(np.abs(first - second) <= np.maximum(FLOAT32_ROUNDING, RELATIVE_TIE * larger))


def by_image(first: Floats, second: Floats, images: Integers) -> Floats:
    """(rows, pairs), one of them may be (rows, 1) -> (images, pairs): first - second, the mean over an image's rows
    that have both values. Equal values differ by 0, and so do rows of an image that cancel."""
    first, second = np.broadcast_arrays(first, second)
    pairs = np.arange(first.shape[1])
    return averaged(of_rows(np.concatenate([first, second], axis=1), pairs, pairs + len(pairs)), images)


def of_rows(values: Floats, left: Integers, right: Integers) -> Floats:
    """(rows, columns) -> (rows, pairs): the left column minus the right one, 0 where they are equal but for float32's
    rounding, NaN where one is missing."""
    differences = np.empty((len(values), len(left)))
    for rows in (slice(start, start + AT_ONCE) for start in range(0, len(values), AT_ONCE)):  # that fit into a cache
        first, second = values[rows].take(left, axis=1), values[rows].take(right, axis=1)
        differences[rows] = np.where(are_equal(first, second), 0.0, first - second)
        differences[rows][~np.isfinite(differences[rows])] = np.nan
    return differences


def averaged(differences: Floats, images: Integers) -> Floats:
    """(rows, pairs) -> (images, pairs): the mean over an image's rows, 0 where they cancel; the same array where each
    row is an image, in order."""
    if (np.diff(images) > 0).all():
        return differences
    mean = means_by_image(differences, images)
    for rows in (slice(start, start + AT_ONCE) for start in range(0, len(mean), AT_ONCE)):
        mean[rows][np.abs(mean[rows]) <= FLOAT32_ROUNDING] = 0.0
    return mean


def means_by_image(values: Floats, images: Integers) -> Floats:
    """(rows, columns) -> (images, columns): the mean over an image's rows that have a value, else NaN."""
    order = np.argsort(images, kind="stable")
    starts = np.flatnonzero(np.diff(images[order], prepend=-1))
    if len(starts) == len(values):  # a row an image
        return np.where(np.isfinite(values), values, np.nan)[order]
    has = np.isfinite(values)[order]
    total = np.add.reduceat(np.where(has, values[order], 0.0), starts, axis=0)
    with np.errstate(invalid="ignore"):
        return np.asarray(total / np.add.reduceat(has, starts, axis=0, dtype=np.int64))


def centre(differences: Floats, lead: str) -> Floats:
    """The mean or median (lead) of each column without its NaN, which is NaN for an empty one."""
    has = np.isfinite(differences)
    if lead == "mean":
        with np.errstate(invalid="ignore"):
            return np.asarray(np.where(has, differences, 0.0).sum(axis=0) / has.sum(axis=0))
    if has.all():
        return np.asarray(np.median(np.ascontiguousarray(differences.T), axis=1))  # in a fraction of nanmedian's time
    return np.asarray(np.nanmedian(differences, axis=0) if has.any() else np.full(differences.shape[1], np.nan))


def interval(differences: Floats, images: Integers, lead: str, are_binary: bool) -> Floats:
    """The lower and upper ends (2, pairs) of the 95 % interval of `centre`, see `bootstrap`. images: (rows,) the number
    of each row's image."""
    if are_binary and lead == "mean":
        # Few images differ, or none: two more, half a difference to either side, as Agresti and Min (Biometrics 2005)
        # add.
        halves = np.broadcast_to([[0.5], [-0.5]], (2, differences.shape[1]))
        differences = np.concatenate([differences, halves])
        images = np.append(images, images.max(initial=0) + np.arange(1, 3))
    intervals = mean_intervals if lead == "mean" else median_intervals
    return intervals(differences, images)


def coinciding(values: Floats, methods: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """Groups of methods whose values are equal in every row but for rounding, each method in one, in the given order.

    values: (rows, methods), NaN where a method has no value. Methods that have values in different rows differ.
    """
    groups: list[list[int]] = []
    for place in range(len(methods)):
        for group in groups:
            if any(_are_same(values[:, place], values[:, other]) for other in group):
                group.append(place)
                break
        else:
            groups.append([place])
    return tuple(tuple(methods[place] for place in group) for group in groups)


def _are_same(first: Floats, second: Floats) -> bool:
    if len(first) > FEW and not _are_same(first[:FEW], second[:FEW]):
        return False  # nearly always so, and quick
    missing = np.isnan(first) & np.isnan(second)
    return bool((are_equal(first, second) | missing).all())
