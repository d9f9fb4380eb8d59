"""Do images, halves of them, and metrics agree on the order of the methods?

Of images: Krippendorff's alpha of their rankings (`agreement`). Of two halves of the images: Kendall's tau, and how
many images would agree (`split_half_agreement`). Of metrics: Kendall's tau of every two (`disagreement`).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import rankdata

from axiom_bench.records.by_metric import compared_columns
from axiom_bench.statistics.bootstrap import (
    FEWEST_IMAGES,
    MOST_UNITS,
    SEED,
    TAIL,
    Floats,
    medians,
    nearest_quantiles,
    resamples,
)
from axiom_bench.statistics.labels import FLOAT32_ROUNDING, Setting
from axiom_bench.statistics.paired_tests import are_equal, coinciding, means_by_image, rounding_of
from axiom_bench.statistics.run_folder import METHOD_FREE, RunFolder

CHUNK = 2**22  # of weights that are floats at a time
Counts = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class ImageValues:
    """One metric in one setting. values: (images, methods), NaN where a method has none for an image; images are those
    of the setting, in the records' order. lead: "mean" or "median", by which tables order methods. better: "lower",
    "higher" or "none". rounding: see `paired_tests.rounding_of`."""

    metric: str
    methods: tuple[str, ...]
    values: Floats
    lead: str
    better: str
    rounding: float = FLOAT32_ROUNDING

    @property
    def sign(self) -> int:
        """1 where more is better, -1 where less is, 0 without a direction."""
        return {"higher": 1, "lower": -1}.get(self.better, 0)

    def of(self, methods: Collection[str]) -> ImageValues:
        """Of these methods alone, in the given order."""
        places = [self.methods.index(name) for name in methods]
        return replace(self, methods=tuple(methods), values=self.values[:, places])

    def compared(self) -> ImageValues:
        """Without methods that lack more than a tenth of the images that any has, as `by_metric.compared_columns`."""
        return self.of([self.methods[place] for place in compared_columns(np.isfinite(self.values))[0]])

    def distinct(self) -> ImageValues:
        """Of methods that coincide the first alone, see `statistics.coinciding`."""
        return self.of([group[0] for group in coinciding(self.values, self.methods, self.rounding)])

    def common(self) -> ImageValues:
        """NaN for all methods on an image where one of them has no value."""
        has_all = np.isfinite(self.values).all(axis=1, keepdims=True)
        return replace(self, values=np.where(has_all, self.values, np.nan))

    @property
    def num_images(self) -> int:
        """Images with at least two values: of one alone nothing can be put in an order."""
        return int((np.isfinite(self.values).sum(axis=1) > 1).sum())


def image_values(run: RunFolder, setting: Setting, metric: str) -> ImageValues | None:
    """All methods that have values of images in this metric; None where there are none, or the layer alone has."""
    matrix = run.matrix(setting, metric)
    if matrix is None or METHOD_FREE in matrix.methods:
        return None
    value = run.metadata.value(metric)
    rounding = rounding_of(matrix.values, value)
    single = means_by_image(matrix.values, matrix.images)
    return ImageValues(metric, matrix.methods, single, value.lead, value.better, rounding)


@lru_cache(maxsize=4)
def drawn(count: int) -> Counts:
    """How often each of `count` images is in each resample, (RESAMPLES, count); the same for all metrics. Of more than
    MOST_UNITS images several are drawn together, see `bootstrap.units`."""
    if count <= MOST_UNITS:
        return resamples(count).astype(np.uint8)
    unit = np.random.default_rng(SEED).permutation(count) % MOST_UNITS
    return resamples(MOST_UNITS).astype(np.uint8)[:, unit]


@lru_cache(maxsize=4)
def split_halves(count: int, splits: int) -> tuple[Counts, Counts]:
    """Random halves of `count` images, two of (splits, count): 1 for an image that is in the half. Of an odd number
    one image is in neither."""
    order = np.argsort(np.random.default_rng(SEED).random((splits, count)), axis=1)
    place = np.argsort(order, axis=1)
    half = count // 2
    return (place < half).astype(np.uint8), ((place >= half) & (place < 2 * half)).astype(np.uint8)


@lru_cache(maxsize=8)
def subsets(count: int, size: int, draws: int) -> Counts:
    """Random sets of `size` of `count` images without replacement, (draws, count); all images where size is count."""
    if size == count:
        return np.ones((1, count), dtype=np.uint8)
    order = np.argsort(np.random.default_rng(SEED).random((draws, count)), axis=1)
    chosen = np.zeros((draws, count), dtype=np.uint8)
    np.put_along_axis(chosen, order[:, :size], 1, axis=1)
    return chosen


def centres(values: Floats, weights: Counts, lead: str) -> Floats:
    """(samples, columns): the mean or median over the images of each sample that have a value, else NaN.

    values: (images, columns). weights: (samples, images), how often each image is in each sample.
    """
    centre = _means if lead == "mean" else _medians
    return np.concatenate([centre(values, part) for part in parts(weights)])


def parts(weights: Counts) -> Iterator[Floats]:
    """The weights as floats, some samples at a time."""
    step = max(1, CHUNK // max(weights.shape[1], 1))
    for start in range(0, len(weights), step):
        yield weights[start : start + step].astype(np.float64)


def _means(values: Floats, weights: Floats) -> Floats:
    has = np.isfinite(values)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((weights @ np.where(has, values, 0.0)) / (weights @ has.astype(np.float64)))


def _medians(values: Floats, weights: Floats) -> Floats:
    """Of an even number the mean of the two values in the middle."""
    unit, found = np.arange(len(values)), np.full((len(weights), values.shape[1]), np.nan)
    for column, own in enumerate(values.T):
        found[:, column] = np.add(*medians(own, unit, weights)) / 2
    return found


def signs(
    centres: Floats,
    pairs: tuple[Sequence[int], Sequence[int]] | None = None,
    rounding: float | Floats = FLOAT32_ROUNDING,
) -> NDArray[np.float32]:
    """(..., columns) -> (..., pairs): 1 where the first of a pair of columns has more, -1 where the second has, 0 where
    they are equal but for rounding or one has no value. pairs: two lists of columns; None for all pairs."""
    first, second = np.triu_indices(centres.shape[-1], 1) if pairs is None else map(np.asarray, pairs)
    left, right = centres[..., first], centres[..., second]
    with np.errstate(invalid="ignore"):
        sign = np.where(are_equal(left, right, rounding), 0.0, np.sign(left - right))
    return np.asarray(np.nan_to_num(sign), dtype=np.float32)


Signs = NDArray[np.float32]
SPLITS = 200
TAU = 0.9  # that two sets of images should agree by
REACH = 0.5  # standard errors by which all differences are moved for the range of images needed: held in 95 % and more
MOST_IMAGES = 1e6  # that a range names: where it takes more, methods may be tied


class SplitHalf(NamedTuple):
    """half: images in a half. tau: Kendall's tau-b between the orders of the methods by two halves of the images, the
    mean over SPLITS splits. needed: images for tau >= TAU, see `images_needed`; least and most: its range, see
    `range_needed`, that holds `needed` too."""

    half: int
    tau: float
    needed: float
    least: float
    most: float

    @property
    def is_extrapolated(self) -> bool:
        """Whether more images are needed than a half has, so that the halves can't show it."""
        return not self.needed <= self.half


def split_half_agreement(values: ImageValues) -> SplitHalf:
    """Of the images on which all of the methods have values; NaN for fewer than two images, and where the methods can't
    be told apart in a half."""
    complete = values.values[np.isfinite(values.values).all(axis=1)]
    half = len(complete) // 2
    if not half:
        return SplitHalf(0, *(math.nan,) * 4)
    found = (centres(complete, part, values.lead) for part in split_halves(len(complete), SPLITS))
    first, second = (signs(half, rounding=values.rounding) for half in found)
    taus = tau_b(first, second)
    tau = float(taus[np.isfinite(taus)].mean()) if np.isfinite(taus).any() else math.nan
    needed, (least, most) = images_needed(tau, half), range_needed(complete, values.lead)
    return SplitHalf(half, tau, needed, min(least, needed), max(most, needed))


def tau_b(first: Signs, second: Signs) -> Floats:
    """Kendall's tau-b from the signs of all pairs, (..., pairs) -> (...): the difference between concordant and
    discordant pairs over the geometric mean of how many pairs each order doesn't tie. NaN where an order ties all."""
    with np.errstate(invalid="ignore", divide="ignore"):
        untied = np.abs(first).sum(axis=-1, dtype=np.float64) * np.abs(second).sum(axis=-1, dtype=np.float64)
        return np.asarray((first * second).sum(axis=-1, dtype=np.float64) / np.sqrt(untied))


def images_needed(tau: float, images: int, goal: float = TAU) -> float:
    """How many images two sets need to agree by `goal`, where two sets of `images` agree by tau.

    r = sin(pi tau / 2) is the correlation that belongs to tau where the methods' differences are normal (Greiner's
    relation). By Spearman and Brown r / (1 - r) is proportional to the number of images, so

        n = images * R / (1 - R) * (1 - r) / r,  R = sin(pi goal / 2).

    infinite where tau isn't above 0, NaN where tau is.
    """
    if math.isnan(tau):
        return math.nan
    if tau <= 0:
        return math.inf
    wanted, seen = math.sin(math.pi * goal / 2), math.sin(math.pi * min(tau, 1.0) / 2)
    return images * wanted / (1 - wanted) * (1 - seen) / seen


def range_needed(values: Floats, lead: str) -> tuple[float, float]:
    """The least and the most images that two sets need to agree by TAU, if every difference between two methods is
    truly REACH standard errors larger, or smaller, than it is seen. Infinite where a tenth of the pairs may be ties.

    values: (images, methods), complete. By n images each, two sets order a pair whose difference is d, with the error s
    of one image, alike in the mean of (2 Phi(sqrt(n) |d| / s) - 1)^2. Summed over the pairs this is tau. The errors are
    those of a bootstrap over images.
    """
    first, second = np.triu_indices(values.shape[1], 1)
    seen, resampled = (centres(values, weights, lead) for weights in (np.ones((1, len(values)), np.uint8),
                                                                      drawn(len(values))))  # fmt: skip
    difference = np.abs(seen[0, first] - seen[0, second])
    error = (resampled[:, first] - resampled[:, second]).std(axis=0) * math.sqrt(len(values))
    moved = REACH * error / math.sqrt(len(values))
    least, most = (images_for(np.maximum(difference + side, 0), error) for side in (moved, -moved))
    return least, most


def images_for(difference: Floats, error: Floats) -> float:
    """n, from 1 on, at which the mean of the pairs' (2 Phi(sqrt(n) d / s) - 1)^2 is TAU; infinite where none is."""
    from scipy.optimize import brentq
    from scipy.special import ndtr

    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = np.where(difference > 0, difference / error, 0.0)

    def missing(logarithm: float) -> float:
        return TAU - float(((2 * ndtr(np.sqrt(np.exp(logarithm)) * ratio) - 1) ** 2).mean())

    if missing(0) <= 0:
        return 1.0
    highest = math.log(MOST_IMAGES)
    return math.inf if missing(highest) > -1e-9 else math.exp(brentq(missing, 0, highest))


class Alpha(NamedTuple):
    """With its 95 % interval, NaN for fewer than FEWEST_IMAGES images."""

    alpha: float
    low: float
    high: float


def agreement(values: Floats, rounding: float = FLOAT32_ROUNDING) -> Alpha:
    """The ordinal alpha of the images' rankings, with a bootstrap interval over images.

    values: (images, methods), NaN where an image has no value of a method. rounding: see `rankings`.
    """
    scores = ordinal_scores(rankings(values, rounding))
    num_images = int((np.isfinite(scores).sum(axis=1) > 0).sum())
    alpha = float(interval_alpha(scores, np.ones((1, len(scores)), dtype=np.uint8))[0])
    if num_images < FEWEST_IMAGES or not np.isfinite(alpha):
        return Alpha(alpha, np.nan, np.nan)
    low, high = np.nanquantile(interval_alpha(scores, drawn(len(scores))), [TAIL, 1 - TAIL])
    return Alpha(alpha, float(low), float(high))


def rankings(values: Floats, rounding: float = FLOAT32_ROUNDING) -> Floats:
    """Each image's ranks of its values, from 1 for the smallest, (images, methods); NaN where there is no value.

    Values that differ by rounding alone, one beside the next, have the mean of their ranks. Where an image
    has k of all m values, rank r stands for (r - 1/2) m / k + 1/2, so that the middle stays in the middle.
    """
    order = np.argsort(values, axis=1, kind="stable")  # NaN last
    in_order = np.take_along_axis(values, order, axis=1)
    with np.errstate(invalid="ignore"):
        is_next = ~are_equal(in_order[:, 1:], in_order[:, :-1], rounding)
    level = np.zeros(values.shape)
    np.put_along_axis(level, order[:, 1:], np.cumsum(is_next, axis=1), axis=1)
    has = np.isfinite(values)
    ranks = rankdata(np.where(has, level, np.inf), axis=1)
    present = np.maximum(has.sum(axis=1, keepdims=True), 1)
    return np.asarray(np.where(has, (ranks - 0.5) * (values.shape[1] / present) + 0.5, np.nan))


def ordinal_scores(ratings: Floats) -> Floats:
    """Ratings as numbers whose squared differences are Krippendorff's ordinal metric: the mean rank of each rating
    among all that can be paired (those of a method that two images rate); NaN for the others.

    delta(c, k) = (sum of n_g from c to k - (n_c + n_k) / 2)^2 with n_g ratings g is the squared difference of
    p(g) = (how many ratings are below g) + n_g / 2.
    """
    can_be_paired = np.isfinite(ratings) & (np.isfinite(ratings).sum(axis=0) > 1)
    scores = np.full(ratings.shape, np.nan)
    scores[can_be_paired] = rankdata(ratings[can_be_paired])
    return scores


def interval_alpha(scores: Floats, weights: Counts) -> Floats:
    """Alpha with squared differences, for each sample of images: (samples,). NaN where all scores are equal.

    scores: (images, methods), images are the coders, methods the units. weights: (samples, images). Of a sample that
    has an image twice, the image isn't paired with itself: such pairs agree by construction and would raise alpha.
    Krippendorff, Content Analysis, 4th ed. 2018, chapter 12: alpha = 1 - D_o / D_e.
    """
    has = np.isfinite(scores)
    centred = np.where(has, scores - (scores[has].mean() if has.any() else 0.0), 0.0)
    return np.concatenate([_alpha(centred, has.astype(np.float64), part) for part in parts(weights)])


def _alpha(scores: Floats, has: Floats, weights: Floats) -> Floats:
    count, squared = weights @ has, weights**2 @ has
    total, squares = weights @ scores, weights @ scores**2
    with np.errstate(invalid="ignore", divide="ignore"):
        pairs = count**2 - squared
        of_unit = np.where(pairs > 0, 2 * (count * squares - total**2) / pairs, 0.0)
        counted = np.where(pairs > 0, count, 0.0)
        observed = (counted * of_unit).sum(axis=1) / counted.sum(axis=1)
        number, copies = count.sum(axis=1), squared.sum(axis=1)
        expected = 2 * (number * squares.sum(axis=1) - total.sum(axis=1) ** 2) / (number**2 - copies)
        return np.asarray(np.where(expected > 1e-12, 1 - observed / expected, np.nan))


MIN_METHODS = 4  # of fewer, every order is likely by chance
COLUMNS = ("row", "column", "tau", "low", "high", "methods")
CHUNK = 2**22  # of pairs' signs at a time


def disagreement(metrics: Sequence[ImageValues]) -> pd.DataFrame:
    """COLUMNS, a row for every two metrics with MIN_METHODS methods in common that aren't all tied; row: the later.

    metrics: of the same images; one without a direction is left out. Methods are in the order of their mean or median
    over the images where all methods of the metric have values, and those that coincide in all metrics count once. tau
    is 1 where two metrics rank them alike, by what each calls better.
    """
    metrics = [values for values in metrics if values.sign and values.methods]
    names = _distinct(metrics) if metrics else []
    metrics = [values.of([name for name in values.methods if name in names]) for values in metrics]
    if len(metrics) < 2 or len(names) < MIN_METHODS:
        return pd.DataFrame(columns=list(COLUMNS))
    images = len(metrics[0].values)
    has = np.array([[name in values.methods for name in names] for values in metrics])
    tau = _taus(metrics, names, np.ones((1, images), dtype=np.uint8))[0]
    low, high = np.full((2, *tau.shape), np.nan)
    if images >= FEWEST_IMAGES:
        low, high = nearest_quantiles(_taus(metrics, names, drawn(images)))
    shared = has.astype(int) @ has.T.astype(int)
    rows = [
        (metrics[later].metric, metrics[first].metric, tau[later, first], low[later, first], high[later, first], count)
        for first in range(len(metrics))
        for later in range(first + 1, len(metrics))
        if (count := int(shared[later, first])) >= MIN_METHODS and np.isfinite(tau[later, first])
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _distinct(metrics: Sequence[ImageValues]) -> list[str]:
    """All methods; of those that coincide in all metrics the first alone."""
    names = list(dict.fromkeys(name for values in metrics for name in values.methods))
    table = np.full((len(metrics), len(metrics[0].values), len(names)), np.nan)
    rounding = np.repeat([values.rounding for values in metrics], len(metrics[0].values))
    for place, values in enumerate(metrics):
        table[place][:, [names.index(name) for name in values.methods]] = values.values
    return [group[0] for group in coinciding(table.reshape(-1, len(names)), names, rounding)]


def _taus(metrics: Sequence[ImageValues], names: Sequence[str], weights: Counts) -> Floats:
    """(samples, metrics, metrics)"""
    found = np.full((len(weights), len(metrics), len(names)), np.nan)
    for place, values in enumerate(metrics):
        columns = [names.index(name) for name in values.methods]
        found[:, place, columns] = values.sign * centres(values.common().values, weights, values.lead)
    step = max(1, CHUNK // (len(metrics) * len(names) ** 2))
    rounding = np.array([values.rounding for values in metrics])[:, None]
    return np.concatenate([_tau_matrix(found[start : start + step], rounding) for start in range(0, len(found), step)])


def _tau_matrix(found: Floats, rounding: Floats) -> Floats:
    """(samples, metrics, methods) -> (samples, metrics, metrics): tau-b over the methods that both metrics have."""
    sign = signs(found, rounding=rounding)
    first, second = np.triu_indices(found.shape[-1], 1)
    has = (np.isfinite(found[..., first]) & np.isfinite(found[..., second])).astype(np.float32)
    # Sums of signs are exact in float32. untied: of the row's metric, among the pairs that the column's has too.
    untied, both = (
        (first @ second.transpose(0, 2, 1)).astype(float) for first, second in ((abs(sign), has), (sign, sign))
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(both / np.sqrt(untied * untied.transpose(0, 2, 1)))
