"""Confidence intervals of means and medians by a bootstrap over images: all rows of an image are
drawn together. For values of several networks, the bootstrap is also over networks. The intervals
have the confidence 1 - level, which is 95 % by default.

Summaries, paired tests and the report's curves take their intervals from here. The kinds of
intervals, and how often they contain the truth for which number of images, are in
docs/statistics.md.

A unit is what a resample draws: one image, or a share of many images. A setting is one model, cut
at one layer, on one data set.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

RESAMPLES = 1000
# If there are more images, several are drawn together, so that the cost stays linear in the rows.
MOST_UNITS = 1000
# With fewer images, an interval would contain the truth too seldom: docs/statistics.md.
FEWEST_IMAGES = 10
FEWEST_NETWORKS = 3  # trainings of one network, for an interval over them
LEVEL = 0.05  # of every test and interval, unless a report chooses another one
TAIL = LEVEL / 2  # the probability beyond each end of a 95 % interval
NORMAL = 1.959964  # standard errors on either side of a 95 % interval of the normal distribution
# An interval reaches at most this many times as far as Student's. If one image decides a mean,
# resamples without it would reach anywhere.
FURTHEST = 2
REACH = 4  # medians are looked for within this many square roots of the rows from the middle
SEED = 0


class Units(NamedTuple):
    """The units that a resample draws, each with all of its rows."""

    order: Integers
    """(rows,) the order that sorts rows by their unit."""
    starts: Integers
    """(units,) the start of each unit in this order."""

    def sums(self, rows: NDArray[np.generic]) -> Floats:
        """Return the sum over each unit's rows: (rows, columns) -> (units, columns)."""
        return np.add.reduceat(rows[self.order], self.starts, axis=0, dtype=np.float64)

    def unit_of_row(self) -> Integers:
        """Return (rows,) the number of each row's unit."""
        sizes = np.diff(self.starts, append=len(self.order))
        unit = np.empty(len(self.order), dtype=np.int64)
        unit[self.order] = np.repeat(np.arange(len(self.starts)), sizes)
        return unit


def units(images: Integers) -> Units:
    """Return the units of rows from (rows,) the number of each row's image.

    A unit is one image. If there are more than MOST_UNITS images, it is a random share of them: the
    sum over several independent images has the variance of their sum.
    """
    names, unit = np.unique(images, return_inverse=True)
    if len(names) > MOST_UNITS:
        unit = np.random.default_rng(SEED).permutation(len(names))[unit] % MOST_UNITS
    return Units(*group_order(unit))


def group_order(numbers: Integers) -> tuple[Integers, Integers]:
    """Return (the order that sorts rows by their number, the start of each number in this order).
    Numbers begin at 0.
    """
    order = np.argsort(numbers, kind="stable")
    return order, np.flatnonzero(np.diff(numbers[order], prepend=-1))


@lru_cache(maxsize=4)
def resamples(count: int) -> Floats:
    """Return how often each of `count` units is drawn, with replacement, in each resample:
    (RESAMPLES, count).

    The resamples depend only on the count, so that all methods of a setting have the same ones.
    """
    drawn = np.random.default_rng(SEED).integers(count, size=(RESAMPLES, count))
    offsets = count * np.arange(RESAMPLES)[:, None]
    counts = np.bincount((drawn + offsets).ravel(), minlength=RESAMPLES * count)
    return counts.reshape(RESAMPLES, count).astype(float)


def normal_reach(level: float) -> float:
    """Return how many standard errors an interval of the normal distribution reaches to either
    side.
    """
    from scipy.special import ndtri

    return NORMAL if level == LEVEL else float(ndtri(1 - level / 2))


def mean_intervals(
    values: Floats, images: Integers, is_proportion: bool = False, level: float = LEVEL
) -> Floats:
    """Return the lower and upper ends (2, columns) of the means over the rows that aren't NaN.

    The interval is the bootstrap-t interval (Efron and Tibshirani, An Introduction to the
    Bootstrap, 1993, 12.5) with the standard error by image of `summary.summarise`. On each side it
    reaches at least as far as Student's t and at most twice as far. No end is within the percentile
    interval, nor beyond the smallest and largest value.

    With `is_proportion`, a metric's values are 0 or 1 by its declared kind. The interval is then
    Wilson's with the number of independent images that has this standard error; NaN if a value is
    outside of 0 to 1. All intervals are NaN for fewer than FEWEST_IMAGES images.
    """
    return ends_of_means([sums_of(values, images, is_proportion)], level)


def difference_intervals(differences: Floats, images: Integers, level: float = LEVEL) -> Floats:
    """Return the middle with the lower and upper ends (3, columns) of differences. Unlike in
    `mean_intervals`, no smallest or largest value bounds them.

    Two more images are added, which differ by half of the furthest difference of an image, to
    either side, and have as many rows as a mean image. They draw the middle towards 0. For values
    that are 0 or 1 this is Agresti and Min's interval (Biometrics 2005). For other values, it keeps
    a few images from being sure before they have shown an outlier.
    """
    sums = sums_of(differences, images)
    with np.errstate(invalid="ignore", divide="ignore"):
        furthest = np.fmax.reduce(np.abs(sums.total / sums.rows), axis=0, initial=0.0)
        mean_rows = sums.rows.sum(axis=0) / (sums.rows > 0).sum(axis=0)
        added = mean_rows * furthest / 2
        subtracted = -mean_rows * furthest / 2
        total = np.concatenate([sums.total, [added, subtracted]])
        rows = np.concatenate([sums.rows, [mean_rows, mean_rows]])
        middle = total.sum(axis=0) / rows.sum(axis=0)
    unbounded = np.full(differences.shape[1], np.inf)
    sums = sums._replace(total=total, rows=rows, least=-unbounded, greatest=unbounded)
    return np.concatenate([middle[None], ends_of_means([sums], level)])


class Sums(NamedTuple):
    """The facts about values that the intervals of their means are computed from.

    `ends_of_means` takes them for all metrics of a setting at once, so that the values themselves
    needn't be in memory together.
    """

    total: Floats
    """(units, columns) the sum over each unit's rows that aren't NaN."""
    rows: Floats
    """(units, columns) the number of these rows."""
    least: Floats
    """(columns,) the smallest value."""
    greatest: Floats
    """(columns,) the largest value."""
    is_proportion: NDArray[np.bool_]
    """(columns,) True if values are 0 or 1 by the metric's kind."""
    num_images: Integers
    """(columns,) the number of images with a value."""


def sums_of(values: Floats, images: Integers, is_proportion: bool = False) -> Sums:
    """Return the sums of (rows, columns) values of one metric; `images` (rows,) has the number of
    each row's image.
    """
    drawn = units(images)
    has = np.isfinite(values)
    if has.all():
        total = drawn.sums(values)
        sizes = np.diff(drawn.starts, append=len(values)).astype(np.float64)
        count = np.repeat(sizes[:, None], values.shape[1], axis=1)
    else:
        total = drawn.sums(np.where(has, values, 0.0))
        count = drawn.sums(has)
    with np.errstate(invalid="ignore"):
        least = np.fmin.reduce(values, axis=0)
        greatest = np.fmax.reduce(values, axis=0)
    return Sums(
        total=total,
        rows=count,
        least=least,
        greatest=greatest,
        is_proportion=np.full(values.shape[1], is_proportion),
        num_images=_num_images(has, images),
    )


def ends_of_means(parts: Sequence[Sums], level: float = LEVEL) -> Floats:
    """Return the ends that `mean_intervals` returns, for the columns of several parts with the same
    rows.

    All parts are in one product of matrices, because its last bit depends on the number of columns.
    """
    from scipy.special import stdtrit  # here, because a report that is up to date doesn't need it

    total, count, least, greatest, is_proportion, num_images = (
        np.concatenate(column, axis=-1) for column in zip(*parts, strict=True)
    )
    num_units = (count > 0).sum(axis=0)
    mean, error = _means_and_errors(np.ones((1, len(total))), total, count, num_units)
    # bootstrap-t: the quantiles of (mean - its estimate) / error over the resamples
    student = np.asarray(stdtrit(np.maximum(num_units - 1, 1), 1 - level / 2))
    means, errors = _means_and_errors(resamples(len(total)), total, count, num_units)
    with np.errstate(invalid="ignore", divide="ignore"):
        standardised = np.where(errors > 0, (means - mean) / errors, np.nan)
        below, above = nearest_quantiles(standardised, level / 2)
    reach = np.array([above, -below]).clip(student, FURTHEST * student)
    ends = mean + np.array([[-1], [1]]) * np.where(np.isnan(reach), student, reach) * error
    # the percentile interval is wider if resamples lack the one image that has most of the rows
    low, high = nearest_quantiles(means, level / 2)
    ends = np.array([np.fmin(ends[0], low), np.fmax(ends[1], high)])
    with np.errstate(invalid="ignore"):
        ends = np.clip(ends, least, greatest)
    ends = np.where(is_proportion, _wilson(mean[0], error[0], num_units, student), ends)
    ends = np.where(is_proportion & ((least < 0) | (greatest > 1)), np.nan, ends)
    return np.where(num_images >= FEWEST_IMAGES, ends, np.nan)


def median_intervals(values: Floats, images: Integers, level: float = LEVEL) -> Floats:
    """Return the lower and upper ends (2, columns) of the medians over the rows that aren't NaN;
    both are values of rows.

    The interval is the percentile interval. If a resample has two values in the middle, each end
    takes the outer one. The ends are NaN for fewer than FEWEST_IMAGES images.
    """
    ends = np.full((2, values.shape[1]), np.nan)
    unit, weights = resamples_of_rows(images)
    tails = np.array([level / 2, 1 - level / 2])
    low_rank, high_rank = np.ceil(tails * RESAMPLES).astype(int) - 1
    has_enough = _num_images(np.isfinite(values), images) >= FEWEST_IMAGES
    for column in np.flatnonzero(has_enough):
        low, high = medians(values[:, column], unit, weights)
        # a resample without a row has the furthest values
        low = np.nan_to_num(low, nan=np.nanmin(values[:, column]))
        high = np.nan_to_num(high, nan=np.nanmax(values[:, column]))
        ends[:, column] = [np.sort(low)[low_rank], np.sort(high)[high_rank]]
    return ends


def resampled_medians(values: Floats, images: Integers) -> Floats:
    """Return (RESAMPLES, columns) the median of each column, without NaN, under each resample of
    the images.

    For an even number of rows, it is the mean of the two values in the middle. The resamples are
    the same for all columns.
    """
    return weighted_medians(values, *resamples_of_rows(images))


def resamples_of_rows(images: Integers) -> tuple[Integers, Floats]:
    """Return (the number of each row's unit, how often each resample has each unit)."""
    drawn = units(images)
    return drawn.unit_of_row(), resamples(len(drawn.starts))


def weighted_medians(values: Floats, unit: Integers, weights: Floats) -> Floats:
    """Return (samples, columns) the median of each column in each sample: the mean of its two
    values in the middle, see `medians`.
    """
    result = np.empty((len(weights), values.shape[1]))
    for number, column in enumerate(values.T):
        result[:, number] = np.add(*medians(column, unit, weights)) / 2
    return result


def medians(column: Floats, unit: Integers, weights: Floats) -> tuple[Floats, Floats]:
    """Return the lower and the upper of the two values in the middle of each sample's rows without
    NaN, (samples,) each.

    A sample is a set of weights, such as a resample of the images. One sorting of the column serves
    all samples.

    For an odd number of rows both are the same value; they are NaN without rows. `unit` (rows,) has
    the number of each row's unit, and `weights` (samples, units) how often each sample has a unit.
    """
    num_units = weights.shape[1]
    order = np.argsort(column)
    order = order[: np.isfinite(column).sum()]  # NaN is last
    half = weights @ np.bincount(unit[order], minlength=num_units) / 2
    count = len(order)
    low, high = np.full((2, len(weights)), np.nan)
    # The values are looked for within REACH square roots of the number of rows from the middle of
    # all, and within twice as many as long as a sample's value isn't found.
    distance = REACH * int(count**0.5)
    is_inside = not count
    while not is_inside:
        first = max(count // 2 - distance, 0)
        last = min(count // 2 + distance + 1, count)
        near = order[first:last]
        below = weights @ np.bincount(unit[order[:first]], minlength=num_units)
        up_to = np.cumsum(np.take(weights, unit[near], axis=1), axis=1) + below[:, None]
        begins_below = (below < half) | (first == 0)
        ends_above = (up_to[:, -1] > half) | (last == count)
        is_inside = bool(begins_below.all() and ends_above.all())
        low_row = (up_to >= half[:, None]).argmax(axis=1)
        high_row = (up_to > half[:, None]).argmax(axis=1)
        low = np.where(half > 0, column[near][low_row], np.nan)
        high = np.where(half > 0, column[near][high_row], np.nan)
        distance *= 2
    return low, high


def _means_and_errors(
    weights: Floats, total: Floats, count: Floats, num_units: Integers
) -> tuple[Floats, Floats]:
    """Return the means and their standard errors under each row of weights, (R, columns) each.

    A row of `weights` says how often each unit is drawn. The error is that of `summary.summarise`:
    by unit, because rows of one image belong together.
    """
    shape = (len(weights), count.shape[1])
    are_alike = (count == count[:, :1]).all()
    # products of whole numbers are exact in any shape
    columns = count[:, :1] if are_alike else count
    rows = np.broadcast_to(weights @ columns, shape)
    squares_of_rows = np.broadcast_to(weights @ columns**2, shape)
    with np.errstate(invalid="ignore", divide="ignore"):
        centre = total.sum(axis=0) / count.sum(axis=0)
        about_zero = total
        # squares about 0 would cancel if the centre is far away from it
        total = total - centre * count
        sums = weights @ total
        total_squares = weights @ total**2
        means = sums / rows
        products = sums if (count == 1).all() else weights @ (total * count)
        squares = total_squares - 2 * means * products + means**2 * squares_of_rows
        # If values are equal, the squares are rounding of the terms, which may be negative.
        least = 1e-24 * weights.max() * (about_zero**2).sum(axis=0)
        if (squares <= least).any(axis=0)[least > 0].any():
            least = 1e-24 * (weights @ about_zero**2)
        squares = np.where(squares > np.maximum(1e-12 * total_squares, least), squares, 0.0)
        return centre + means, np.sqrt(num_units / (num_units - 1) * squares) / rows


class OverNetworks(NamedTuple):
    """The statistics of several networks, and their mean with two intervals.

    The report's table of trainings shows whether a result holds for other trainings of the network.
    """

    by_network: Floats
    """(networks,) the statistic of each network."""
    mean: float
    """The mean of these statistics."""
    interval_all: Floats
    """(2,) the interval for all networks and images that could have been drawn."""
    interval_these: Floats
    """(2,) the interval for these networks on all images."""
    range_without_one: Floats
    """(2,) the least and the greatest mean without one of the networks."""


def over_networks(
    values: Floats, images: Integers, lead: str, level: float = LEVEL
) -> OverNetworks:
    """Return the statistics of networks that were trained alike from different seeds, on the same
    images.

    `values` has shape (rows, networks), and is NaN if a network has no value. `images` (rows,) has
    the number of each row's image. `lead` is the statistic of each network, "mean" or "median".

    The bootstrap has two levels, networks and images. The variance of the mean is the sum of two
    variances. The first is that under resamples of the images, which are the same for all networks,
    because images that are hard for one network are hard for others (Owen, Ann. Appl. Stat. 2007).
    The second is the networks' sample variance over their number, which resamples of a few networks
    would show too small.

    The intervals are Student's, with the degrees of freedom of such a sum (Satterthwaite,
    Biometrics 1946). They end at the smallest and largest value, and are NaN for fewer than
    FEWEST_NETWORKS networks or FEWEST_IMAGES images.
    """
    from scipy.special import stdtrit

    networks = values.shape[1]
    count = len(units(images).starts)
    with np.errstate(invalid="ignore", divide="ignore"):
        if lead == "median":
            by_network = np.nanmedian(values, axis=0)
            resampled = resampled_medians(values, images)
        else:
            sums = sums_of(values, images)
            by_network = sums.total.sum(axis=0) / sums.rows.sum(axis=0)
            resampled = (resamples(count) @ sums.total) / (resamples(count) @ sums.rows)
        mean = float(by_network.mean())
        image_variance = resampled.mean(axis=1).var() * count / (count - 1)
        network_variance = by_network.var() / (networks - 1)
        total = image_variance + network_variance
        # Satterthwaite's degrees of freedom of the sum of both variances
        freedom = count - 1
        if total:
            parts = image_variance**2 / (count - 1) + network_variance**2 / (networks - 1)
            freedom = total**2 / parts
    reach_of_all = stdtrit(freedom, 1 - level / 2) * total**0.5
    reach_of_these = stdtrit(count - 1, 1 - level / 2) * image_variance**0.5
    reach = np.array([reach_of_all, reach_of_these])
    is_enough = networks >= FEWEST_NETWORKS and len(np.unique(images)) >= FEWEST_IMAGES
    ends = mean + np.array([[-1], [1]]) * np.where(is_enough, reach, np.nan)
    ends = ends.clip(np.nanmin(values), np.nanmax(values))
    others = (networks * mean - by_network) / (networks - 1)
    return OverNetworks(
        by_network=by_network,
        mean=mean,
        interval_all=ends[:, 0],
        interval_these=ends[:, 1],
        range_without_one=np.array([others.min(), others.max()]),
    )


def expanded_quantiles(resampled: Floats, images: int, level: float = LEVEL) -> Floats:
    """Return the ends (2, columns) of a percentile interval over resamples of this number of
    images; NaN for fewer than FEWEST_IMAGES. `paired_tests.tests` takes it for differences of
    medians.

    The ends are moved outwards as Student's quantiles are, and by the resamples' own narrowness
    (Hesterberg, Am. Stat. 2015, 5.2).
    """
    from scipy.special import ndtr, stdtrit

    units = max(min(images, MOST_UNITS), 2)
    tail = ndtr(-np.sqrt(units / (units - 1)) * stdtrit(units - 1, 1 - level / 2))
    return np.where(images >= FEWEST_IMAGES, nearest_quantiles(resampled, float(tail)), np.nan)


def nearest_quantiles(values: Floats, tail: float = TAIL) -> Floats:
    """Return (2, ...) the tail and 1 - tail quantiles along the first axis without its NaN. Each is
    one of the values; NaN without values.
    """
    in_order = np.sort(values, axis=0)  # NaN last
    last = np.isfinite(in_order).sum(axis=0, keepdims=True) - 1
    quantiles = []
    for share in (tail, 1 - tail):
        row = np.clip(np.rint(share * last).astype(np.int64), 0, None)
        quantiles.append(np.take_along_axis(in_order, row, axis=0))
    return np.concatenate(quantiles)


def _wilson(share: Floats, error: Floats, num_units: Integers, student: Floats) -> Floats:
    """Return Wilson's interval (J. Am. Stat. Assoc. 22, 209, 1927) with Student's quantile and the
    effective number of images.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        effective = np.where(error > 0, share * (1 - share) / error**2, num_units)
        z = student**2 / effective
        centre = share + z / 2
        half = np.sqrt(z * (share * (1 - share) + z / 4))
        return np.array([centre - half, centre + half]) / (1 + z)


def _num_images(has: NDArray[np.bool_], images: Integers) -> Integers:
    """Return the number of images with a value, for each column."""
    order, starts = group_order(images)
    if len(starts) == len(images):  # each image has one row
        return np.asarray(has.sum(axis=0))
    return np.asarray(np.logical_or.reduceat(has[order], starts, axis=0).sum(axis=0))
