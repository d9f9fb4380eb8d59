"""Krippendorff's alpha of rankings: do the images agree on the order of the methods?"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.stats import rankdata

from axiom_bench.judging.values import Counts, drawn, parts
from axiom_bench.statistics.bootstrap import FEWEST_IMAGES, TAIL, Floats
from axiom_bench.statistics.differences import are_equal


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
