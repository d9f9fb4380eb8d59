"""95 % intervals of means and medians by a bootstrap over images: all rows of an image are drawn together.

API: `mean_intervals` and `median_intervals`, (rows, columns) -> (2, columns). Which kind of interval, and how often it
holds the truth at which number of images, is in docs/statistics.md, written by scripts/simulate_statistics.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

RESAMPLES = 1000
MOST_UNITS = 1000  # of more images several are drawn together, so that the cost stays linear in the rows
FEWEST_IMAGES = 10  # of fewer an interval would hold the truth too seldom: docs/statistics.md
TAIL = 0.025
FURTHEST = 2  # times Student's reach: where one image decides a mean, resamples without it would reach anywhere
REACH = 4  # square roots of the number of rows from the middle: where the ends of a median's interval are looked for
EXACT = 2**21  # rows whose sums over a resample are exact in float32
SEED = 0


class Units(NamedTuple):
    """What a resample draws. order: (rows,) that sorts rows by their unit. starts: (units,) of each unit there."""

    order: Integers
    starts: Integers

    def sums(self, rows: NDArray[np.generic]) -> Floats:
        """(rows, columns) -> (units, columns): the sum over each unit's rows."""
        return np.add.reduceat(rows[self.order], self.starts, axis=0, dtype=np.float64)

    def of_rows(self) -> Integers:
        """(rows,) the number of each row's unit."""
        number = np.empty(len(self.order), dtype=np.int64)
        number[self.order] = np.repeat(np.arange(len(self.starts)), np.diff(self.starts, append=len(self.order)))
        return number


def units(images: Integers) -> Units:
    """images: (rows,) the number of each row's image. A unit is one image, of more than MOST_UNITS images a random
    share of them: the sum over several independent images has the variance of their sum."""
    names, unit = np.unique(images, return_inverse=True)
    if len(names) > MOST_UNITS:
        unit = np.random.default_rng(SEED).permutation(len(names))[unit] % MOST_UNITS
    order = np.argsort(unit, kind="stable")
    return Units(order, np.flatnonzero(np.diff(unit[order], prepend=-1)))


@lru_cache(maxsize=4)
def resamples(count: int) -> Floats:
    """How often each of `count` units is drawn, with replacement, in each resample: (RESAMPLES, count). They depend on
    the count alone, so that all methods of a setting have the same."""
    drawn = np.random.default_rng(SEED).integers(count, size=(RESAMPLES, count))
    place = count * np.arange(RESAMPLES)[:, None]
    return np.bincount((drawn + place).ravel(), minlength=RESAMPLES * count).reshape(RESAMPLES, count).astype(float)


def mean_intervals(values: Floats, images: Integers) -> Floats:
    """Lower and upper ends (2, columns) of the means over the rows that aren't NaN.

    The bootstrap-t interval (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, 12.5) with the standard
    error by image of `summary.summarise`, on each side at least as far as Student's t and at most twice as far, and
    within the smallest and largest value. Where all of a column's values are 0 or 1, Wilson's interval with the number
    of independent images that has this standard error. NaN for fewer than FEWEST_IMAGES images.
    """
    return ends_of_means([summed(values, images)])


class Sums(NamedTuple):
    """What the intervals of means need of values: total, rows: (units, columns), of each unit's rows that aren't NaN;
    least, greatest, is_binary (all are 0 or 1), num_images: (columns,)."""

    total: Floats
    rows: Floats
    least: Floats
    greatest: Floats
    is_binary: NDArray[np.bool_]
    num_images: Integers


def summed(values: Floats, images: Integers) -> Sums:
    """Of (rows, columns)."""
    drawn, has = units(images), np.isfinite(values)
    total, count = drawn.sums(np.where(has, values, 0.0)), drawn.sums(has)
    is_binary = ((values == 0) | (values == 1) | ~has).all(axis=0)
    with np.errstate(invalid="ignore"):
        least, greatest = np.fmin.reduce(values, axis=0), np.fmax.reduce(values, axis=0)
    return Sums(total, count, least, greatest, is_binary, _num_images(has, images))


def ends_of_means(parts: Sequence[Sums]) -> Floats:
    """As `mean_intervals`, of the columns of several parts with the same rows, one after the other: one product of
    matrices, since its last bit depends on how many columns it has."""
    total, count, least, greatest, is_binary, num_images = (
        np.concatenate(column, axis=-1) for column in zip(*parts, strict=True)
    )
    num_units = (count > 0).sum(axis=0)
    mean, error = _means_and_errors(np.ones((1, len(total))), total, count, num_units)
    student = _student(num_units)
    means, errors = _means_and_errors(resamples(len(total)), total, count, num_units)
    with np.errstate(invalid="ignore", divide="ignore"):
        studentised = np.where(errors > 0, (means - mean) / errors, np.nan)
    below, above = _quantiles(studentised)
    reach = np.concatenate([above, -below]).clip(student, FURTHEST * student)
    ends = mean + np.array([[-1], [1]]) * np.where(np.isnan(reach), student, reach) * error
    with np.errstate(invalid="ignore"):
        ends = np.clip(ends, least, greatest)
    ends = np.where(is_binary, _wilson(mean[0], error[0], num_units, student), ends)
    return np.where(num_images >= FEWEST_IMAGES, ends, np.nan)


def median_intervals(values: Floats, images: Integers) -> Floats:
    """Lower and upper ends (2, columns) of the medians over the rows that aren't NaN, both values of rows.

    The percentile interval. The median of a resample is at most a value x where at least half of the rows drawn are, so
    that the ends are found by bisection, without any resample's median; where exactly half are, both
    neighbours are medians, and each end takes the outer. NaN for fewer than FEWEST_IMAGES images.
    """
    drawn = units(images)
    has = np.isfinite(values)
    columns = np.ascontiguousarray(np.where(has, values, np.nan).T)
    order = np.argsort(columns, axis=1)  # NaN last
    count = has.sum(axis=0)
    places = _places_of_ends(drawn.of_rows()[order], count, drawn.sums(has), REACH * int(count.max(initial=0) ** 0.5))
    ends = np.take_along_axis(np.take_along_axis(columns, order, axis=1).T, places, axis=0)
    return np.where(_num_images(has, images) >= FEWEST_IMAGES, ends, np.nan)


def _places_of_ends(unit: Integers, count: Integers, rows: Floats, reach: int) -> Integers:
    """Where the intervals' ends stand in the sorted rows, (2, columns), looked for within `reach` places of the middle,
    and of twice as many where one isn't there.

    unit: (columns, rows) of each row, sorted. count: (columns,) how many rows have a value. rows: (units, columns).
    """
    low, high = np.maximum(count // 2 - reach, 0), np.clip(count // 2 + reach, 0, np.maximum(count - 1, 0))
    number = np.arange(len(count))[:, None] * len(rows)
    near = low[:, None] + np.arange((high - low).max(initial=0) + 1)
    near_unit = np.take_along_axis(unit, np.minimum(near, unit.shape[1] - 1), axis=1) + number
    near = np.where(near <= high[:, None], near, unit.shape[1])
    below = _counted((unit + number)[np.arange(unit.shape[1]) < low[:, None]], rows)
    kind: Any = np.float32 if count.max(initial=0) < EXACT else np.float64
    weights, total = resamples(len(rows)).astype(kind), rows.astype(kind)

    def has_enough(middle: Integers, share: float, is_at_most: Any) -> NDArray[np.bool_]:
        """Whether in this share of the resamples half of the rows drawn stand up to `middle`."""
        up_to = (below + _counted(near_unit[near <= middle[:, None]], rows)).astype(kind)
        return np.asarray(is_at_most(weights @ (2 * up_to - total), 0).mean(axis=0) >= share)

    ends = []
    for share, is_at_most in ((TAIL, np.greater_equal), (1 - TAIL, np.greater)):
        is_outside = (low > 0) & has_enough(low - 1, share, is_at_most)
        is_outside |= (high < count - 1) & ~has_enough(high, share, is_at_most)
        if is_outside.any():
            return _places_of_ends(unit, count, rows, 2 * reach)
        first, last = low, high
        while (first < last).any():
            middle = (first + last) // 2
            enough = has_enough(middle, share, is_at_most)
            first, last = np.where(enough, first, middle + 1), np.where(enough, middle, last)
        ends.append(first)
    return np.array(ends)


def _counted(units_of_columns: Integers, rows: Floats) -> Floats:
    """How many rows of each unit there are, in the shape of rows, (units, columns)."""
    return np.bincount(units_of_columns, minlength=rows.size).reshape(rows.T.shape).T.astype(rows.dtype)


def _means_and_errors(weights: Floats, total: Floats, count: Floats, num_units: Integers) -> tuple[Floats, Floats]:
    """The means and their standard errors by unit under each row of weights, (R, columns) each."""
    with np.errstate(invalid="ignore", divide="ignore"):
        rows = weights @ count
        means = (weights @ total) / rows
        squares = weights @ total**2 - 2 * means * (weights @ (total * count)) + means**2 * (weights @ count**2)
        scale = num_units / (num_units - 1)
        # Of equal values the squares are rounding of the terms, which may be negative.
        squares = np.where(squares > 1e-12 * (weights @ total**2), squares, 0.0)
        return means, np.sqrt(scale * squares) / rows


def _quantiles(studentised: Floats) -> tuple[Floats, Floats]:
    """The TAIL and 1 - TAIL quantiles of each column without its NaN, (1, columns) each; NaN for an empty column."""
    in_order = np.sort(studentised, axis=0)
    last = np.isfinite(in_order).sum(axis=0, keepdims=True) - 1
    places = (np.clip(np.rint(share * last).astype(np.int64), 0, None) for share in (TAIL, 1 - TAIL))
    below, above = (np.take_along_axis(in_order, place, axis=0) for place in places)
    return below, above


def _student(num_units: Integers) -> Floats:
    from scipy.special import stdtrit  # here, since a report that is up to date needs none

    return np.asarray(stdtrit(np.maximum(num_units - 1, 1), 1 - TAIL))


def _wilson(share: Floats, error: Floats, num_units: Integers, student: Floats) -> Floats:
    """Wilson 1927, J. Am. Stat. Assoc. 22, 209, with Student's quantile and the effective number of images."""
    with np.errstate(invalid="ignore", divide="ignore"):
        effective = np.where(error > 0, share * (1 - share) / error**2, num_units)
        z = student**2 / effective
        centre, half = share + z / 2, np.sqrt(z * (share * (1 - share) + z / 4))
        return np.array([centre - half, centre + half]) / (1 + z)


def _num_images(has: NDArray[np.bool_], images: Integers) -> Integers:
    """How many images have a value, for each column."""
    order = np.argsort(images, kind="stable")
    starts = np.flatnonzero(np.diff(images[order], prepend=-1))
    return np.asarray(np.logical_or.reduceat(has[order], starts, axis=0).sum(axis=0))
