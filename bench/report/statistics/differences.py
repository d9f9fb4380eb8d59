"""Differences between two methods, image by image: tests, effect sizes and what so many images could have shown.

All functions take many pairs at once: (images, pairs), NaN where an image has no pair of values.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from axiom_bench.report.numbers import FLOAT32_ROUNDING
from axiom_bench.report.statistics.bootstrap import Floats, Integers, mean_intervals, median_intervals

RELATIVE_TIE = 1e-5  # of the larger value: what another batch size may change in float32
POWER = 0.8
LEVEL = 0.05
COLUMNS = ("n", "better", "same", "worse", "difference", "low", "high", "effect", "p")
NORMAL_QUARTILES = 1.349  # between the quartiles of a normal distribution, in standard deviations


def are_equal(first: Floats, second: Floats) -> NDArray[np.bool_]:
    """Whether values are equal but for float32's rounding."""
    larger = np.maximum(np.abs(first), np.abs(second))
    return np.asarray(np.abs(first - second) <= np.maximum(FLOAT32_ROUNDING, RELATIVE_TIE * larger))


def by_image(first: Floats, second: Floats, images: Integers) -> Floats:
    """(rows, pairs) -> (images, pairs): first - second, the mean over an image's rows that have both values. Equal
    values differ by 0, and so do rows of an image that cancel."""
    difference = np.where(are_equal(first, second), 0.0, first - second)
    order = np.argsort(images, kind="stable")
    starts = np.flatnonzero(np.diff(images[order], prepend=-1))
    has = np.isfinite(difference)[order]
    total = np.add.reduceat(np.where(has, difference[order], 0.0), starts, axis=0)
    with np.errstate(invalid="ignore"):
        mean = total / np.add.reduceat(has, starts, axis=0, dtype=np.int64)
    return np.where(np.abs(mean) <= FLOAT32_ROUNDING, 0.0, mean)


def statistics(differences: Floats, better: str, lead: str, are_binary: bool) -> pd.DataFrame:
    """COLUMNS, a row for each pair. better: "lower" or "higher". lead: of `difference`, "mean" or "median".

    n: images. better, same, worse: on how many of them the first method is. difference, low, high: of first - second
    with its 95 % interval, see `bootstrap`. effect: the matched-pairs rank-biserial correlation (Kerby, Compr. Psychol.
    2014), the share of Wilcoxon's ranks in favour of the first method minus the share against it. p: two-sided, of
    Wilcoxon's signed-rank test over the images that differ; of values that are 0 or 1 (are_binary) of the exact sign test,
    which with one row an image is McNemar's. 1 where no image differs, NaN without images.
    """
    gain = differences if better == "higher" else -differences
    n, ahead, behind = (is_so.sum(axis=0) for is_so in (np.isfinite(gain), gain > 0, gain < 0))
    with np.errstate(invalid="ignore"):
        centre = _nan_statistic(differences, lead)
        low, high = _interval(differences, lead, are_binary)
    p = sign_test(ahead, behind) if are_binary else signed_rank_test(gain)
    effect = rank_biserial(np.sign(gain) if are_binary else gain)
    columns = (n, ahead, n - ahead - behind, behind, centre, low, high, effect, np.where(n > 0, p, np.nan))
    return pd.DataFrame(dict(zip(COLUMNS, columns, strict=True)))


def sign_test(ahead: Integers, behind: Integers) -> Floats:
    """The exact two-sided p of so many signs, each as likely as the other."""
    from scipy.special import bdtr

    return np.minimum(1.0, 2 * bdtr(np.minimum(ahead, behind), ahead + behind, 0.5))


def signed_rank_test(differences: Floats) -> Floats:
    """The two-sided p of Wilcoxon's signed-rank test over the differences that aren't 0: exact up to 50 of them
    without ties and up to 13 with ties, else by the normal distribution (scipy)."""
    from scipy.stats import wilcoxon  # here, because it takes half a second to import

    p = np.ones(differences.shape[1])
    is_different = np.isfinite(differences) & (differences != 0)
    counts = is_different.sum(axis=0)
    in_order = np.sort(np.where(is_different, np.abs(differences), np.nan), axis=0)
    has_ties = (np.diff(in_order, axis=0) == 0).any(axis=0)
    for count, ties in dict.fromkeys(zip(counts.tolist(), has_ties.tolist(), strict=True)):
        if count:
            chosen = (counts == count) & (has_ties == ties)
            columns = differences[:, chosen].T[is_different[:, chosen].T].reshape(-1, count)
            p[chosen] = wilcoxon(columns, axis=1).pvalue
    return p


def rank_biserial(gain: Floats) -> Floats:
    """(ranks in favour - ranks against) / all ranks, of the differences that aren't 0; 0 where there are none."""
    from scipy.stats import rankdata

    is_different = np.isfinite(gain) & (gain != 0)
    ranks = rankdata(np.where(is_different, np.abs(gain), 0.0), axis=0)
    ranks = np.where(is_different, ranks - (~is_different).sum(axis=0), 0.0)  # zeros have the lowest ranks
    total = ranks.sum(axis=0)
    return np.divide((np.sign(gain, where=is_different, out=np.zeros_like(gain)) * ranks).sum(axis=0), total,
                     out=np.zeros_like(total), where=total > 0)  # fmt: skip


def detectable(differences: Floats, lead: str, tests: int) -> Floats:
    """The smallest mean (or median) difference that these many images would have shown with a probability of 80 %, at 5 %
    over a family of so many tests: (z(1 - 0.05 / (2 tests)) + z(0.8)) s / sqrt(n).

    s: the standard deviation of the differences; for medians, whose differences have heavy tails, the interquartile
    range over 1.349, the standard deviation of a normal distribution with these quartiles. NaN where nothing differs.
    """
    from scipy.special import ndtri

    n = np.isfinite(differences).sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        spread = np.sqrt(_nan_statistic((differences - _nan_statistic(differences, "mean")) ** 2, "mean"))
        if lead == "median":
            low, high = np.nanquantile(differences, [0.25, 0.75], axis=0)
            spread = np.where(high > low, (high - low) / NORMAL_QUARTILES, spread)
        smallest = (ndtri(1 - LEVEL / (2 * max(tests, 1))) + ndtri(POWER)) * spread / np.sqrt(n)
    return np.asarray(np.where(smallest > 0, smallest, np.nan))


def _nan_statistic(values: Floats, lead: str) -> Floats:
    has = np.isfinite(values)
    if lead == "mean":
        return np.asarray(np.where(has, values, 0.0).sum(axis=0) / has.sum(axis=0))
    return np.asarray(np.nanmedian(values, axis=0) if has.any() else np.full(values.shape[1], np.nan))


def _interval(differences: Floats, lead: str, are_binary: bool) -> Floats:
    if are_binary and lead == "mean":
        # Few images differ, or none: two more, half a difference to either side, as Agresti and Min (Biometrics 2005) add.
        differences = np.concatenate([differences, np.full((1, differences.shape[1]), 0.5)])
        differences = np.concatenate([differences, np.full((1, differences.shape[1]), -0.5)])
    intervals = mean_intervals if lead == "mean" else median_intervals
    return intervals(differences, np.arange(len(differences)))
