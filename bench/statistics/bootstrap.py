"""95 % intervals of means and medians by a bootstrap over images: all rows of an image are drawn
together. Of several networks' values also over networks.

Which kind of interval, and how often it holds the truth at which number of images, is in
docs/statistics.md.
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
MOST_UNITS = (
    1000  # of more images several are drawn together, so that the cost stays linear in the rows
)
FEWEST_IMAGES = 10  # of fewer an interval would hold the truth too seldom: docs/statistics.md
FEWEST_NETWORKS = 3  # trainings of one network, for an interval over them
TAIL = 0.025
NORMAL = 1.959964  # standard errors on either side of a 95 % interval of the normal distribution
# times Student's reach: where one image decides a mean, resamples without it would reach anywhere
FURTHEST = 2
REACH = 4  # square roots of the number of rows from the middle: where medians are looked for
SEED = 0


class Units(NamedTuple):
    """What a resample draws. order: (rows,) that sorts rows by their unit. starts: (units,) of each
    unit there.
    """

    order: Integers
    starts: Integers

    def sums(self, rows: NDArray[np.generic]) -> Floats:
        """(rows, columns) -> (units, columns): the sum over each unit's rows."""
        return np.add.reduceat(rows[self.order], self.starts, axis=0, dtype=np.float64)

    def of_rows(self) -> Integers:
        """(rows,) the number of each row's unit."""
        number = np.empty(len(self.order), dtype=np.int64)
        number[self.order] = np.repeat(
            np.arange(len(self.starts)), np.diff(self.starts, append=len(self.order))
        )
        return number


def units(images: Integers) -> Units:
    """images: (rows,) the number of each row's image. A unit is one image, of more than MOST_UNITS
    images a random share of them: the sum over several independent images has the variance of their
    sum.
    """
    names, unit = np.unique(images, return_inverse=True)
    if len(names) > MOST_UNITS:
        unit = np.random.default_rng(SEED).permutation(len(names))[unit] % MOST_UNITS
    return Units(*in_groups(unit))


def in_groups(numbers: Integers) -> tuple[Integers, Integers]:
    """The order that sorts rows by their number, from 0 on, and where each number starts there."""
    order = np.argsort(numbers, kind="stable")
    return order, np.flatnonzero(np.diff(numbers[order], prepend=-1))


@lru_cache(maxsize=4)
def resamples(count: int) -> Floats:
    """How often each of `count` units is drawn, with replacement, in each resample: (RESAMPLES,
    count). They depend on the count alone, so that all methods of a setting have the same.
    """
    drawn = np.random.default_rng(SEED).integers(count, size=(RESAMPLES, count))
    place = count * np.arange(RESAMPLES)[:, None]
    return (
        np.bincount((drawn + place).ravel(), minlength=RESAMPLES * count)
        .reshape(RESAMPLES, count)
        .astype(float)
    )


def mean_intervals(values: Floats, images: Integers, is_proportion: bool = False) -> Floats:
    """Lower and upper ends (2, columns) of the means over the rows that aren't NaN.

    The bootstrap-t interval (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, 12.5)
    with the standard error by image of `summary.summarise`. It is on each side at least as far as
    Student's t and at most twice as far. But no end lies within the percentile interval, nor beyond
    the smallest and largest value. is_proportion: of a metric whose values are 0 or 1 by its
    declared kind, Wilson's interval with the number of independent images that has this standard
    error. NaN where a value lies outside of 0 to 1. NaN for fewer than FEWEST_IMAGES images.
    """
    return ends_of_means([summed(values, images, is_proportion)])


def difference_intervals(differences: Floats, images: Integers) -> Floats:
    """The middle with the lower and upper ends (3, columns), as `mean_intervals`, of differences,
    which no smallest or largest value bounds.

    With two more images, which differ by half of the furthest difference of an image, to either
    side, and have as many rows as a mean image. Of values that are 0 or 1 Agresti and Min's
    interval (Biometrics 2005), of others what keeps few images from being sure before they have
    shown an outlier. They draw the middle towards 0.
    """
    sums = summed(differences, images)
    with np.errstate(invalid="ignore", divide="ignore"):
        furthest = np.fmax.reduce(np.abs(sums.total / sums.rows), axis=0, initial=0.0)
        more = sums.rows.sum(axis=0) / (sums.rows > 0).sum(axis=0)
        total = np.concatenate([sums.total, [more * furthest / 2, -more * furthest / 2]])
        rows = np.concatenate([sums.rows, [more, more]])
        middle = total.sum(axis=0) / rows.sum(axis=0)
    everywhere = np.full(differences.shape[1], np.inf)
    sums = sums._replace(total=total, rows=rows, least=-everywhere, greatest=everywhere)
    return np.concatenate([middle[None], ends_of_means([sums])])


class Sums(NamedTuple):
    """What the intervals of means need of values: total, rows: (units, columns), of each unit's
    rows that aren't NaN; least, greatest, is_proportion, num_images: (columns,).
    """

    total: Floats
    rows: Floats
    least: Floats
    greatest: Floats
    is_proportion: NDArray[np.bool_]
    num_images: Integers


def summed(values: Floats, images: Integers, is_proportion: bool = False) -> Sums:
    """Of (rows, columns) of one metric."""
    drawn, has = units(images), np.isfinite(values)
    if has.all():
        total, size = (
            drawn.sums(values),
            np.diff(drawn.starts, append=len(values)).astype(np.float64),
        )
        count = np.repeat(size[:, None], values.shape[1], axis=1)
    else:
        total, count = drawn.sums(np.where(has, values, 0.0)), drawn.sums(has)
    with np.errstate(invalid="ignore"):
        least, greatest = np.fmin.reduce(values, axis=0), np.fmax.reduce(values, axis=0)
    return Sums(
        total,
        count,
        least,
        greatest,
        np.full(values.shape[1], is_proportion),
        _num_images(has, images),
    )


def ends_of_means(parts: Sequence[Sums]) -> Floats:
    """As `mean_intervals`, of the columns of several parts with the same rows, one after the other:
    one product of matrices, since its last bit depends on how many columns it has.
    """
    from scipy.special import stdtrit  # here, since a report that is up to date needs none

    total, count, least, greatest, is_proportion, num_images = (
        np.concatenate(column, axis=-1) for column in zip(*parts, strict=True)
    )
    num_units = (count > 0).sum(axis=0)
    mean, error = _means_and_errors(np.ones((1, len(total))), total, count, num_units)
    student = np.asarray(stdtrit(np.maximum(num_units - 1, 1), 1 - TAIL))
    means, errors = _means_and_errors(resamples(len(total)), total, count, num_units)
    with np.errstate(invalid="ignore", divide="ignore"):
        below, above = nearest_quantiles(np.where(errors > 0, (means - mean) / errors, np.nan))
    reach = np.array([above, -below]).clip(student, FURTHEST * student)
    ends = mean + np.array([[-1], [1]]) * np.where(np.isnan(reach), student, reach) * error
    low, high = nearest_quantiles(
        means
    )  # further out where resamples lack the one image that has most of the rows
    ends = np.array([np.fmin(ends[0], low), np.fmax(ends[1], high)])
    with np.errstate(invalid="ignore"):
        ends = np.clip(ends, least, greatest)
    ends = np.where(is_proportion, _wilson(mean[0], error[0], num_units, student), ends)
    ends = np.where(is_proportion & ((least < 0) | (greatest > 1)), np.nan, ends)
    return np.where(num_images >= FEWEST_IMAGES, ends, np.nan)


def median_intervals(values: Floats, images: Integers) -> Floats:
    """Lower and upper ends (2, columns) of the medians over the rows that aren't NaN, both values
    of rows.

    The percentile interval; where a resample has two values in the middle, each end takes the
    outer. NaN for fewer than FEWEST_IMAGES images.
    """
    ends, drawn = np.full((2, values.shape[1]), np.nan), resamples_of_rows(images)
    for column in np.flatnonzero(_num_images(np.isfinite(values), images) >= FEWEST_IMAGES):
        low, high = medians(values[:, column], *drawn)
        bounds = (
            np.nanmin(values[:, column]),
            np.nanmax(values[:, column]),
        )  # of a resample without a row
        last = np.ceil(np.array([TAIL, 1 - TAIL]) * RESAMPLES).astype(int) - 1
        sides = np.nan_to_num(low, nan=bounds[0]), np.nan_to_num(high, nan=bounds[1])
        ends[:, column] = [np.sort(side)[place] for side, place in zip(sides, last, strict=True)]
    return ends


def resampled_medians(values: Floats, images: Integers) -> Floats:
    """(RESAMPLES, columns): the median of each column, without NaN, under each resample of the
    images; of an even number of rows the mean of the two in the middle. The resamples are the same
    for all columns.
    """
    return weighted_medians(values, *resamples_of_rows(images))


def resamples_of_rows(images: Integers) -> tuple[Integers, Floats]:
    """The number of each row's unit, and how often each resample has it."""
    drawn = units(images)
    return drawn.of_rows(), resamples(len(drawn.starts))


def weighted_medians(values: Floats, unit: Integers, weights: Floats) -> Floats:
    """(samples, columns): the mean of the two values in the middle of each, see `medians`."""
    result = np.empty((len(weights), values.shape[1]))
    for place, column in enumerate(values.T):
        result[:, place] = np.add(*medians(column, unit, weights)) / 2
    return result


def medians(column: Floats, unit: Integers, weights: Floats) -> tuple[Floats, Floats]:
    """(samples,) each: the two values in the middle of each sample's rows without NaN, one twice of
    an odd number; NaN of none. unit: (rows,) the number of each row's. weights: (samples, units),
    how often each sample has a unit.

    They are looked for within REACH square roots of the number of rows from the middle of all, and
    of twice as many where one isn't there.
    """
    num_units, order = weights.shape[1], np.argsort(column)
    order = order[: np.isfinite(column).sum()]  # NaN is last
    half = weights @ np.bincount(unit[order], minlength=num_units) / 2
    count, far, is_inside = len(order), REACH * int(len(order) ** 0.5), not len(order)
    low, high = np.full((2, len(weights)), np.nan)
    while not is_inside:
        first, last = max(count // 2 - far, 0), min(count // 2 + far + 1, count)
        near, below = (
            order[first:last],
            weights @ np.bincount(unit[order[:first]], minlength=num_units),
        )
        up_to = np.cumsum(np.take(weights, unit[near], axis=1), axis=1) + below[:, None]
        is_inside = bool(
            ((below < half) | (first == 0)).all()
            and ((up_to[:, -1] > half) | (last == count)).all()
        )
        low, high = (
            np.where(half > 0, column[near][is_there.argmax(axis=1)], np.nan)
            for is_there in (up_to >= half[:, None], up_to > half[:, None])
        )
        far *= 2
    return low, high


def _means_and_errors(
    weights: Floats, total: Floats, count: Floats, num_units: Integers
) -> tuple[Floats, Floats]:
    """The means and their standard errors by unit under each row of weights, (R, columns) each."""
    shape, are_alike = (len(weights), count.shape[1]), (count == count[:, :1]).all()
    columns = (
        count[:, :1] if are_alike else count
    )  # products of whole numbers are exact in any shape
    rows, squares_of_rows = (
        np.broadcast_to(weights @ part, shape) for part in (columns, columns**2)
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        centre = total.sum(axis=0) / count.sum(axis=0)
        about_zero, total = (
            total,
            total - centre * count,
        )  # squares about 0 would cancel where it is far away
        sums, total_squares = weights @ total, weights @ total**2
        means, products = sums / rows, sums if (count == 1).all() else weights @ (total * count)
        squares = total_squares - 2 * means * products + means**2 * squares_of_rows
        # Of equal values the squares are rounding of the terms, which may be negative.
        least = 1e-24 * weights.max() * (about_zero**2).sum(axis=0)
        if (squares <= least).any(axis=0)[least > 0].any():
            least = 1e-24 * (weights @ about_zero**2)
        squares = np.where(squares > np.maximum(1e-12 * total_squares, least), squares, 0.0)
        return centre + means, np.sqrt(num_units / (num_units - 1) * squares) / rows


class OverNetworks(NamedTuple):
    """The statistic of each network, (networks,), their mean with two 95 % intervals (2,): `of_all`
    networks and images that could have been drawn, `of_these` networks on all images; and the least
    and greatest mean `without_one`, (2,).
    """

    of_each: Floats
    mean: float
    of_all: Floats
    of_these: Floats
    without_one: Floats


def over_networks(values: Floats, images: Integers, lead: str) -> OverNetworks:
    """Of networks trained alike from different seeds, on the same images. values: (rows, networks),
    NaN where a network has none. images: (rows,) the number of each row's image. lead: "mean" or
    "median", of each network.

    A bootstrap of two levels, networks and images. The variance of the mean is the sum of that
    under resamples of the images, the same for all networks, since what is hard for one is for the
    others (Owen, Ann. Appl. Stat. 2007), and of the networks' sample variance over their number,
    which a few networks' resamples would show too small. The intervals are Student's, with the
    degrees of freedom of such a sum (Satterthwaite, Biometrics 1946), and end at the smallest and
    largest value. NaN for fewer than FEWEST_NETWORKS networks or FEWEST_IMAGES images.
    """
    from scipy.special import stdtrit

    networks, drawn = values.shape[1], units(images)
    count = len(drawn.starts)
    with np.errstate(invalid="ignore", divide="ignore"):
        if lead == "median":
            of_each, resampled = np.nanmedian(values, axis=0), resampled_medians(values, images)
        else:
            sums = summed(values, images)
            of_each = sums.total.sum(axis=0) / sums.rows.sum(axis=0)
            resampled = (resamples(count) @ sums.total) / (resamples(count) @ sums.rows)
        mean = float(of_each.mean())
        by_images = resampled.mean(axis=1).var() * count / (count - 1)
        by_networks = of_each.var() / (networks - 1)
        total = by_images + by_networks
        freedom = (
            total**2 / (by_images**2 / (count - 1) + by_networks**2 / (networks - 1))
            if total
            else count - 1
        )
    is_enough = networks >= FEWEST_NETWORKS and len(np.unique(images)) >= FEWEST_IMAGES
    reach = np.array(
        [stdtrit(freedom, 1 - TAIL) * total**0.5, stdtrit(count - 1, 1 - TAIL) * by_images**0.5]
    )
    ends = mean + np.array([[-1], [1]]) * np.where(is_enough, reach, np.nan)
    ends = ends.clip(np.nanmin(values), np.nanmax(values))
    others = (networks * mean - of_each) / (networks - 1)
    return OverNetworks(
        of_each, mean, ends[:, 0], ends[:, 1], np.array([others.min(), others.max()])
    )


def expanded_quantiles(resampled: Floats, images: int) -> Floats:
    """The ends (2, columns) of a percentile interval over resamples of so many images, moved
    outwards as Student's quantiles are and by the resamples' own narrowness (Hesterberg, Am. Stat.
    2015, 5.2); NaN for fewer than FEWEST_IMAGES.
    """
    from scipy.special import ndtr, stdtrit

    units = max(min(images, MOST_UNITS), 2)
    tail = ndtr(-np.sqrt(units / (units - 1)) * stdtrit(units - 1, 1 - TAIL))
    return np.where(images >= FEWEST_IMAGES, nearest_quantiles(resampled, float(tail)), np.nan)


def nearest_quantiles(values: Floats, tail: float = TAIL) -> Floats:
    """The tail and 1 - tail quantiles, each a value, along the first axis without its NaN: (2,
    ...); NaN of none.
    """
    in_order = np.sort(values, axis=0)  # NaN last
    last = np.isfinite(in_order).sum(axis=0, keepdims=True) - 1
    places = [
        np.clip(np.rint(share * last).astype(np.int64), 0, None) for share in (tail, 1 - tail)
    ]
    return np.concatenate([np.take_along_axis(in_order, place, axis=0) for place in places])


def _wilson(share: Floats, error: Floats, num_units: Integers, student: Floats) -> Floats:
    """Wilson 1927, J. Am. Stat. Assoc. 22, 209, with Student's quantile and the effective number of
    images.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        effective = np.where(error > 0, share * (1 - share) / error**2, num_units)
        z = student**2 / effective
        centre, half = share + z / 2, np.sqrt(z * (share * (1 - share) + z / 4))
        return np.array([centre - half, centre + half]) / (1 + z)


def _num_images(has: NDArray[np.bool_], images: Integers) -> Integers:
    """How many images have a value, for each column."""
    order, starts = in_groups(images)
    if len(starts) == len(images):  # a row an image
        return np.asarray(has.sum(axis=0))
    return np.asarray(np.logical_or.reduceat(has[order], starts, axis=0).sum(axis=0))
