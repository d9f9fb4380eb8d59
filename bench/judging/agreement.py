"""Do images, halves of them, and metrics agree on the order of the methods?

Of images: Krippendorff's alpha of their rankings (`agreement`). Of two halves of the images: Kendall's tau, and how
many images would agree (`split_half_agreement`). Of metrics: Kendall's tau of every two (`disagreement`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import rankdata

from axiom_bench.judging.values import Counts, ImageValues, centres, drawn, parts, signs, split_halves
from axiom_bench.statistics.bootstrap import FEWEST_IMAGES, TAIL, Floats
from axiom_bench.statistics.differences import are_equal, coinciding

Signs = NDArray[np.float32]
SPLITS = 200
TAU = 0.9  # that two sets of images should agree by


class SplitHalf(NamedTuple):
    """half: images in a half. tau: Kendall's tau-b between the orders of the methods by two halves of the images, the
    mean over SPLITS splits. needed: images for tau >= TAU, see `images_needed`."""

    half: int
    tau: float
    needed: float

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
        return SplitHalf(0, math.nan, math.nan)
    first, second = (signs(centres(complete, part, values.lead)) for part in split_halves(len(complete), SPLITS))
    taus = tau_b(first, second)
    tau = float(taus[np.isfinite(taus)].mean()) if np.isfinite(taus).any() else math.nan
    return SplitHalf(half, tau, images_needed(tau, half))


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


class Alpha(NamedTuple):
    """With its 95 % interval, NaN for fewer than FEWEST_IMAGES images."""

    alpha: float
    low: float
    high: float


def agreement(values: Floats) -> Alpha:
    """The ordinal alpha of the images' rankings, with a bootstrap interval over images.

    values: (images, methods), NaN where an image has no value of a method.
    """
    scores = ordinal_scores(rankings(values))
    num_images = int((np.isfinite(scores).sum(axis=1) > 0).sum())
    alpha = float(interval_alpha(scores, np.ones((1, len(scores)), dtype=np.uint8))[0])
    if num_images < FEWEST_IMAGES or not np.isfinite(alpha):
        return Alpha(alpha, np.nan, np.nan)
    low, high = np.nanquantile(interval_alpha(scores, drawn(len(scores))), [TAIL, 1 - TAIL])
    return Alpha(alpha, float(low), float(high))


def rankings(values: Floats) -> Floats:
    """Each image's ranks of its values, from 1 for the smallest, (images, methods); NaN where there is no value.

    Values that are equal but for float32's rounding, one beside the next, have the mean of their ranks. Where an image
    has k of all m values, rank r stands for (r - 1/2) m / k + 1/2, so that the middle stays in the middle.
    """
    order = np.argsort(values, axis=1, kind="stable")  # NaN last
    in_order = np.take_along_axis(values, order, axis=1)
    with np.errstate(invalid="ignore"):
        is_next = ~are_equal(in_order[:, 1:], in_order[:, :-1])
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
        low, high = _interval(_taus(metrics, names, drawn(images)))
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
    for place, values in enumerate(metrics):
        table[place][:, [names.index(name) for name in values.methods]] = values.values
    return [group[0] for group in coinciding(table.reshape(-1, len(names)), names)]


def _interval(resampled: Floats) -> Floats:
    """(2, metrics, metrics): the percentile interval over the resamples that have a tau; NaN where none has."""
    in_order = np.sort(resampled, axis=0)  # NaN last
    last = np.isfinite(in_order).sum(axis=0, keepdims=True) - 1
    places = [np.clip(np.rint(share * last).astype(np.int64), 0, None) for share in (TAIL, 1 - TAIL)]
    return np.concatenate([np.take_along_axis(in_order, place, axis=0) for place in places])


def _taus(metrics: Sequence[ImageValues], names: Sequence[str], weights: Counts) -> Floats:
    """(samples, metrics, metrics)"""
    found = np.full((len(weights), len(metrics), len(names)), np.nan)
    for place, values in enumerate(metrics):
        columns = [names.index(name) for name in values.methods]
        found[:, place, columns] = values.sign * centres(values.common().values, weights, values.lead)
    step = max(1, CHUNK // (len(metrics) * len(names) ** 2))
    return np.concatenate([_tau_matrix(found[start : start + step]) for start in range(0, len(found), step)])


def _tau_matrix(found: Floats) -> Floats:
    """(samples, metrics, methods) -> (samples, metrics, metrics): tau-b over the methods that both metrics have."""
    sign = signs(found)
    first, second = np.triu_indices(found.shape[-1], 1)
    has = (np.isfinite(found[..., first]) & np.isfinite(found[..., second])).astype(np.float32)
    # Sums of signs are exact in float32. untied: of the row's metric, among the pairs that the column's has too.
    untied, both = (
        (first @ second.transpose(0, 2, 1)).astype(float) for first, second in ((abs(sign), has), (sign, sign))
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(both / np.sqrt(untied * untied.transpose(0, 2, 1)))
