"""95 % intervals of means and medians by a bootstrap over images: all rows of an image are drawn together.

API: `mean_intervals` and `median_intervals`, (rows, columns) -> (2, columns). Which kind of interval, and how often it
holds the truth at which number of images, is in docs/statistics.md, written by scripts/simulate_statistics.py.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

RESAMPLES = 1000
MOST_UNITS = 1000  # of more images several are drawn together, so that the cost stays linear in the rows
FEWEST_IMAGES = 10  # of fewer an interval would hold the truth too seldom: docs/statistics.md
TAIL = 0.025
FURTHEST = 2  # times Student's reach: where one image decides a mean, resamples without it would reach anywhere
SEED = 0


class Units(NamedTuple):
    """What a resample draws. order: (rows,) that sorts rows by their unit. starts: (units,) of each unit there."""

    order: Integers
    starts: Integers

    def sums(self, rows: NDArray[np.generic]) -> Floats:
        """(rows, columns) -> (units, columns): the sum over each unit's rows."""
        return np.add.reduceat(rows[self.order], self.starts, axis=0, dtype=np.float64)


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
    drawn = units(images)
    has = np.isfinite(values)
    total, count = drawn.sums(np.where(has, values, 0.0)), drawn.sums(has)
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
        ends = np.clip(ends, np.fmin.reduce(values, axis=0), np.fmax.reduce(values, axis=0))
        is_binary = ((values == 0) | (values == 1) | ~has).all(axis=0)
    ends = np.where(is_binary, _wilson(mean[0], error[0], num_units, student), ends)
    return np.where(_num_images(has, images) >= FEWEST_IMAGES, ends, np.nan)


def median_intervals(values: Floats, images: Integers) -> Floats:
    """Lower and upper ends (2, columns) of the medians over the rows that aren't NaN, both values of rows.

    The percentile interval. The median of a resample is at most a value x where at least half of the rows drawn are, so
    that the ends are found by bisection, without any resample's median; where exactly half are, both
    neighbours are medians, and each end takes the outer. NaN for fewer than FEWEST_IMAGES images.
    """
    drawn = units(images)
    has = np.isfinite(values)
    in_order = np.sort(values, axis=0)  # NaN last
    rank = np.empty(values.shape, dtype=np.int64)
    np.put_along_axis(rank, np.argsort(values, axis=0, kind="stable"), np.arange(len(values))[:, None], axis=0)
    count, last, weights = drawn.sums(has), has.sum(axis=0) - 1, resamples(len(drawn.starts))
    ends = []
    for share, is_at_most in ((TAIL, np.greater_equal), (1 - TAIL, np.greater)):
        low, high = np.zeros_like(last), np.maximum(last, 0)
        while (low < high).any():
            middle = (low + high) // 2
            majority = weights @ (2 * drawn.sums((rank <= middle) & has) - count)
            enough = is_at_most(majority, 0).mean(axis=0) >= share
            low, high = np.where(enough, low, middle + 1), np.where(enough, middle, high)
        ends.append(np.take_along_axis(in_order, low[None], axis=0)[0])
    return np.where(_num_images(has, images) >= FEWEST_IMAGES, np.array(ends), np.nan)


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
