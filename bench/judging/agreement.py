"""Do images, halves of them, and metrics agree on the order of the methods?

Of images: Krippendorff's alpha of their rankings (`agreement`). Of two halves of the images: Kendall's tau, and how
many images would agree (`split_half_agreement`). Of metrics: Kendall's tau of every two (`disagreement`).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import combinations
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import rankdata

from axiom_bench.records.by_metric import compared_columns
from axiom_bench.statistics.bootstrap import (
    FEWEST_IMAGES,
    SEED,
    TAIL,
    Floats,
    nearest_quantiles,
    resamples_of_rows,
    weighted_medians,
)
from axiom_bench.statistics.labels import FLOAT32_ROUNDING, Setting
from axiom_bench.statistics.paired_tests import are_equal, coinciding, means_by_image, rounding_of
from axiom_bench.statistics.run_folder import METHOD_FREE, RunFolder

CHUNK = 2**22  # of weights, or pairs' signs, that are floats at a time
SPLITS = 200
TAU = 0.9  # that two sets of images should agree by
REACH = 0.5  # standard errors by which all differences are moved for the range of images needed: held in 95 % and more
MOST_IMAGES = 1e6  # that a range names: where it takes more, methods may be tied
MIN_METHODS = 4  # that two metrics put in an order: of fewer, every order is likely by chance
COLUMNS = ("row", "column", "tau", "low", "high", "methods")  # of `disagreement`
Counts = NDArray[np.uint8]
Signs = NDArray[np.float32]


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
    """How often each of `count` images is in each resample, (RESAMPLES, count); the same for all metrics."""
    unit, weights = resamples_of_rows(np.arange(count))
    return weights.astype(np.uint8)[:, unit]


def random_places(count: int, orders: int) -> NDArray[np.int64]:
    """Each image's place in random orders of `count` images, (orders, count)."""
    return np.argsort(np.argsort(np.random.default_rng(SEED).random((orders, count)), axis=1), axis=1)


@lru_cache(maxsize=4)
def split_halves(count: int, splits: int) -> tuple[Counts, Counts]:
    """Random halves of `count` images, two of (splits, count): 1 for an image that is in the half. Of an odd number
    one image is in neither."""
    place, half = random_places(count, splits), count // 2
    return (place < half).astype(np.uint8), ((place >= half) & (place < 2 * half)).astype(np.uint8)


@lru_cache(maxsize=8)
def subsets(count: int, size: int, draws: int) -> Counts:
    """Random sets of `size` of `count` images without replacement, (draws, count); all images where size is count."""
    return (random_places(count, draws if size < count else 1) < size).astype(np.uint8)


def centres(values: Floats, weights: Counts, lead: str) -> Floats:
    """(samples, columns): the mean or median over the images of each sample that have a value, else NaN.

    values: (images, columns). weights: (samples, images), how often each image is in each sample.
    """
    if lead == "median":
        image = np.arange(len(values))
        return np.concatenate([weighted_medians(values, image, part) for part in parts(weights)])
    has = np.isfinite(values)
    filled, counted = np.where(has, values, 0.0), has.astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.concatenate([(part @ filled) / (part @ counted) for part in parts(weights)])


def parts(weights: Counts) -> Iterator[Floats]:
    """The weights as floats, some samples at a time."""
    step = max(1, CHUNK // max(weights.shape[1], 1))
    for start in range(0, len(weights), step):
        yield weights[start : start + step].astype(np.float64)


def signs(
    centres: Floats,
    pairs: tuple[Sequence[int], Sequence[int]] | None = None,
    rounding: float | Floats = FLOAT32_ROUNDING,
) -> Signs:
    """(..., columns) -> (..., pairs): 1 where the first of a pair of columns has more, -1 where the second has, 0 where
    they are equal but for rounding or one has no value. pairs: two lists of columns; None for all pairs."""
    first, second = np.triu_indices(centres.shape[-1], 1) if pairs is None else map(np.asarray, pairs)
    left, right = centres[..., first], centres[..., second]
    with np.errstate(invalid="ignore"):
        sign = np.where(are_equal(left, right, rounding), 0.0, np.sign(left - right))
    return np.asarray(np.nan_to_num(sign), dtype=np.float32)


class SplitHalf(NamedTuple):
    """half: images in a half. tau: Kendall's tau-b between the orders of the methods by two halves of the images, the
    mean over SPLITS splits. needed: images for tau >= TAU, see `images_needed`; least and most: its range, see
    `range_needed`, that holds `needed` too."""

    half: int
    tau: float
    needed: float
    least: float
    most: float


def split_half_agreement(values: ImageValues) -> SplitHalf:
    """Of the images on which all of the methods have values; NaN for fewer than two images, and where the methods can't
    be told apart in a half."""
    complete = values.values[np.isfinite(values.values).all(axis=1)]
    half = len(complete) // 2
    if not half:
        return SplitHalf(0, *(math.nan,) * 4)
    halves = (centres(complete, part, values.lead) for part in split_halves(len(complete), SPLITS))
    taus = tau_b(*(signs(each, rounding=values.rounding) for each in halves))
    tau = float(taus[np.isfinite(taus)].mean()) if np.isfinite(taus).any() else math.nan
    needed, (least, most) = images_needed(tau, half), range_needed(complete, values.lead)
    return SplitHalf(half, tau, needed, min(least, needed), max(most, needed))


def tau_b(first: Signs, second: Signs) -> Floats:
    """Kendall's tau-b from the signs of all pairs, (..., pairs) -> (...): the difference between concordant and
    discordant pairs over the geometric mean of how many pairs each order doesn't tie. NaN where an order ties all."""
    with np.errstate(invalid="ignore", divide="ignore"):
        untied = np.abs(first).sum(axis=-1, dtype=np.float64) * np.abs(second).sum(axis=-1, dtype=np.float64)
        return np.asarray((first * second).sum(axis=-1, dtype=np.float64) / np.sqrt(untied))


def images_needed(tau: float, images: int) -> float:
    """How many images two sets need to agree by TAU, where two sets of `images` agree by tau.

    r = sin(pi tau / 2) is the correlation that belongs to tau where the methods' differences are normal (Greiner's
    relation). By Spearman and Brown r / (1 - r) is proportional to the number of images, so

        n = images * R / (1 - R) * (1 - r) / r,  R = sin(pi TAU / 2).

    infinite where tau isn't above 0, NaN where tau is.
    """
    if math.isnan(tau):
        return math.nan
    if tau <= 0:
        return math.inf
    wanted, seen = math.sin(math.pi * TAU / 2), math.sin(math.pi * min(tau, 1.0) / 2)
    return images * wanted / (1 - wanted) * (1 - seen) / seen


def range_needed(values: Floats, lead: str) -> tuple[float, float]:
    """The least and the most images that two sets need to agree by TAU, if every difference between two methods is
    truly REACH standard errors larger, or smaller, than it is seen. Infinite where a tenth of the pairs may be ties.

    values: (images, methods), complete. By n images each, two sets order a pair whose difference is d, with the error s
    of one image, alike in the mean of (2 Phi(sqrt(n) |d| / s) - 1)^2. Summed over the pairs this is tau. The errors are
    those of a bootstrap over images.
    """
    first, second = np.triu_indices(values.shape[1], 1)
    everything, resampled = np.ones((1, len(values)), np.uint8), centres(values, drawn(len(values)), lead)
    (seen,) = centres(values, everything, lead)
    difference = np.abs(seen[first] - seen[second])
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


def agreement(values: Floats, rounding: float = FLOAT32_ROUNDING) -> tuple[float, float, float]:
    """The ordinal alpha of the images' rankings, with the ends of its 95 % interval by a bootstrap over images, NaN for
    fewer than FEWEST_IMAGES.

    values: (images, methods), NaN where an image has no value of a method. rounding: see `rankings`.
    """
    scores = ordinal_scores(rankings(values, rounding))
    num_images = int((np.isfinite(scores).sum(axis=1) > 0).sum())
    alpha = float(interval_alpha(scores, np.ones((1, len(scores)), dtype=np.uint8))[0])
    if num_images < FEWEST_IMAGES or not np.isfinite(alpha):
        return alpha, np.nan, np.nan
    low, high = np.nanquantile(interval_alpha(scores, drawn(len(scores))), [TAIL, 1 - TAIL])
    return alpha, float(low), float(high)


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


def disagreement(metrics: Sequence[ImageValues]) -> pd.DataFrame:
    """COLUMNS, a row for every two metrics with MIN_METHODS methods in common that aren't all tied; row: the later.

    metrics: of the same images; one without a direction is left out. Methods are in the order of their mean or median
    over the images where all methods of the metric have values, and those that coincide in all metrics count once. tau
    is 1 where two metrics rank them alike, by what each calls better.
    """
    metrics = [values for values in metrics if values.sign and values.methods]
    names = list(dict.fromkeys(name for values in metrics for name in values.methods))
    if len(metrics) < 2 or len(names) < MIN_METHODS:
        return pd.DataFrame(columns=list(COLUMNS))
    table = np.stack([pd.DataFrame(each.values, columns=each.methods).reindex(columns=names) for each in metrics])
    rounding = np.array([values.rounding for values in metrics])
    groups = coinciding(table.reshape(-1, len(names)), names, np.repeat(rounding, table.shape[1]))
    table = table[..., [names.index(group[0]) for group in groups]]  # (metrics, images, methods)
    has = np.isfinite(table).any(axis=1)
    is_complete = (np.isfinite(table) | ~has[:, None]).all(axis=2, keepdims=True)
    table = np.where(is_complete, table, np.nan)

    def taus(weights: Counts) -> Floats:
        """(samples, metrics, metrics)"""
        pairs = zip(metrics, table, strict=True)
        samples = np.stack([values.sign * centres(own, weights, values.lead) for values, own in pairs], axis=1)
        step = max(1, CHUNK // (len(metrics) * table.shape[2] ** 2))
        starts = range(0, len(samples), step)
        return np.concatenate([_taus(samples[start : start + step], rounding[:, None]) for start in starts])

    (tau,), images = taus(np.ones((1, table.shape[1]), dtype=np.uint8)), table.shape[1]
    low, high = nearest_quantiles(taus(drawn(images))) if images >= FEWEST_IMAGES else np.full((2, *tau.shape), np.nan)
    shared = has.astype(int) @ has.T.astype(int)
    rows = [
        (metrics[later].metric, metrics[first].metric, tau[later, first], low[later, first], high[later, first], count)
        for first, later in combinations(range(len(metrics)), 2)
        if (count := int(shared[later, first])) >= MIN_METHODS and np.isfinite(tau[later, first])
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _taus(centres: Floats, rounding: Floats) -> Floats:
    """(samples, metrics, methods) -> (samples, metrics, metrics): tau-b over the methods that both metrics have."""
    sign = signs(centres, rounding=rounding)
    first, second = np.triu_indices(centres.shape[-1], 1)
    has = (np.isfinite(centres[..., first]) & np.isfinite(centres[..., second])).astype(np.float32)
    # Sums of signs are exact in float32. untied: of the row's metric, among the pairs that the column's has too.
    untied, both = abs(sign) @ has.transpose(0, 2, 1), sign @ sign.transpose(0, 2, 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return both.astype(float) / np.sqrt(untied.astype(float) * untied.transpose(0, 2, 1))
