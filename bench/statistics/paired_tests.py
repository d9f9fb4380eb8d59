"""Differences between two methods, row by row and image by image; the methods that coincide; paired tests: p, effect
sizes, Holm's adjustment, what so many images would show.

Functions of differences take many pairs at once: (images, pairs), NaN where an image has no pair of values. A mean or
median difference and its interval are over rows, as the means and medians that they stand beside.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from axiom_bench.columns import LAYER, OK, WHOLE_SET
from axiom_bench.errors import unknown
from axiom_bench.statistics.bootstrap import Floats, Integers, mean_intervals, median_intervals
from axiom_bench.statistics.labels import FLOAT32_ROUNDING

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
    mean[np.abs(mean) <= FLOAT32_ROUNDING] = 0.0
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
        # Few images differ, or none: two more, half a difference to either side (Agresti and Min, Biometrics 2005).
        halves = np.broadcast_to([[0.5], [-0.5]], (2, differences.shape[1]))
        differences = np.concatenate([differences, halves])
        images = np.append(images, images.max(initial=0) + np.arange(1, 3))
    return (mean_intervals if lead == "mean" else median_intervals)(differences, images)


def coinciding(values: Floats, methods: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """Groups of methods whose values are equal in every row but for rounding, each method in one, in the given order.

    values: (rows, methods), NaN where a method has no value. Methods that have values in different rows differ.
    """
    groups: list[list[int]] = []
    for place in range(len(methods)):
        same = (group for group in groups if any(_are_same(values[:, place], values[:, other]) for other in group))
        if (group := next(same, None)) is None:
            groups.append([place])
        else:
            group.append(place)
    return tuple(tuple(methods[place] for place in group) for group in groups)


def _are_same(first: Floats, second: Floats) -> bool:
    if len(first) > FEW and not _are_same(first[:FEW], second[:FEW]):
        return False  # nearly always so, and quick
    missing = np.isnan(first) & np.isnan(second)
    return bool((are_equal(first, second) | missing).all())


POWER = 0.8
LEVEL = 0.05  # of a family: below it a difference is called significant
WILCOXON_SPREAD = (
    1.0727  # sqrt(pi / 3) standard deviations, over the quartiles' distance of the mean of two normal numbers
)
LAST = np.iinfo(np.uint64).max  # sorts behind the bits of every number
MOST_EXACT = 50  # differences whose test scipy makes exact
MOST_TIED = 13  # differences of which some are tied, whose test is exact
MOST_MEANS = 2000  # of two differences each
COMPARE_COLUMNS = ("method", "metric", "n", "better", "same", "worse", "difference", "ahead", "p", "adjusted")
ROW = ["image_id", "target_class"]


def compare(records: pd.DataFrame, control: str, better: Mapping[str, str]) -> pd.DataFrame:
    """`control` against every other method of one setting's records, metric by metric: one row for each pair.

    better: metric -> "lower" or "higher"; others are left out. n: images where both methods have a value; an image
    with rows of several classes counts once, by its mean difference. better, same, worse: on how many of them `control`
    is; values closer than float32's rounding are the same. difference: the median of control - other. ahead: the share
    of Wilcoxon's signed ranks in favour of `control`, over 1/2 where it is better. p: of that test, two-sided, 1 where
    all are the same. adjusted: p times Holm's factor, over a metric's methods.
    Raises BenchError, with the nearest names, where the records have no such method or metric.
    """
    for kind, names in (("method", [control]), ("metric", list(better))):
        present = set(map(str, records[kind].unique())) - {LAYER}
        for name in names:
            if name not in present:
                raise unknown(kind, name, present)
    single = records[(records["status"] == OK) & (records["image_id"] != WHOLE_SET)]
    rows = []
    for metric, direction in better.items():
        of_metric = single[single["metric"] == metric].astype({"method": object})
        values = of_metric.pivot_table("value", ROW, "method", observed=True, sort=False)
        others = [str(name) for name in values if name != control] if control in values else []
        if others:
            images = pd.factorize(values.index.get_level_values("image_id"))[0]
            differences = by_image(values[[control]].to_numpy(), values[others].to_numpy(), images)
            are_binary = bool(values.isin([0, 1]).to_numpy()[values.notna()].all())
            tests = pd.DataFrame(statistics(differences, direction, are_binary))
            tests = tests.assign(
                method=others, metric=metric, difference=centre(differences, "median"),
                adjusted=holm(tests["p"]), ahead=(1 + tests["effect"]) / 2,
            )  # fmt: skip
            rows.append(tests[list(COMPARE_COLUMNS)])
    return pd.concat(rows, ignore_index=True) if rows else pd.DataFrame(columns=list(COMPARE_COLUMNS))


def statistics(differences: Floats, better: str, are_binary: bool) -> dict[str, Floats | Integers]:
    """n, better, same, worse, effect and p of each pair, from differences by image. better: "lower" or "higher".

    n: images. better, same, worse: on how many of them the first method is. effect: the matched-pairs rank-biserial
    correlation (Kerby, Compr. Psychol. 2014), the share of Wilcoxon's ranks in favour of the first method minus the
    share against it. p: two-sided, of Wilcoxon's signed-rank test over the images that differ; of values that are 0 or
    1 (are_binary) of the exact sign test, which with one row an image is McNemar's. 1 where no image differs, NaN
    without images.
    """
    gain = differences if better == "higher" else -differences
    n, ahead, behind = (is_so.sum(axis=0) for is_so in (np.isfinite(gain), gain > 0, gain < 0))
    ranks = signed_ranks(np.sign(gain) if are_binary else gain)
    p = sign_test(ahead, behind) if are_binary else signed_rank_test(gain, ranks)
    columns = {"n": n, "better": ahead, "same": n - ahead - behind, "worse": behind}
    return {**columns, "effect": rank_biserial(ranks), "p": np.where(n > 0, p, np.nan)}


def sign_test(ahead: Integers, behind: Integers) -> Floats:
    """The exact two-sided p of so many signs, each as likely as the other."""
    from scipy.special import bdtr

    return np.minimum(1.0, 2 * bdtr(np.minimum(ahead, behind), ahead + behind, 0.5))


class SignedRanks(NamedTuple):
    """Of each pair's differences that aren't 0, (pairs,) each: how many they are, the sums of the ranks of the positive
    and of the negative ones by size, equal ones with their mean rank, and the sum of t^3 - t over groups of t equal
    ones. All are exact: halves, and whole numbers up to 2^53."""

    counts: Integers
    positive: Floats
    negative: Floats
    ties: Floats


def signed_ranks(differences: Floats) -> SignedRanks:
    """(images, pairs), NaN where an image has no pair of values."""
    step = max(1, AT_ONCE**2 // max(len(differences), 1))
    starts = range(0, max(differences.shape[1], 1), step)
    parts = [_signed_ranks(differences[:, start : start + step]) for start in starts]
    return SignedRanks(*map(np.concatenate, zip(*parts, strict=True)))


def _signed_ranks(differences: Floats) -> SignedRanks:
    columns = np.ascontiguousarray(differences.T)
    is_different = np.isfinite(columns) & (columns != 0)
    counts = is_different.sum(axis=1)
    # The bits of a positive number sort as it does. Its own sign's bit is free: behind them stands that of the
    # difference, so that one sort of whole numbers brings both into order.
    bits = np.abs(columns).view(np.uint64) << 1 | (columns > 0)
    bits[~is_different] = LAST
    bits.sort(axis=1)
    place = np.arange(1, bits.shape[1] + 1)
    is_positive = (bits & 1).astype(bool) & (place <= counts[:, None])
    positive = is_positive @ place.astype(np.float64)
    moved, ties = _moved_by_ties(bits, is_positive, counts)
    return SignedRanks(counts, positive + moved, counts * (counts + 1) / 2 - positive - moved, ties)


def _moved_by_ties(bits: NDArray[Any], is_positive: NDArray[np.bool_], counts: Integers) -> tuple[Floats, Floats]:
    """Of each pair, by how much the sum of positive ranks changes where equal ones have their mean rank in place of
    their places, and the sum of t^3 - t. bits: sorted, of sizes and signs."""
    size = bits >> 1
    is_next = size[:, 1:] == size[:, :-1]  # equal to the one before it
    is_next &= np.arange(1, bits.shape[1]) < counts[:, None]
    pair, second = np.nonzero(is_next)
    is_first = np.ones(len(pair), dtype=bool)  # of the second one of each group of equal differences
    is_first[1:] = (np.diff(pair) > 0) | (np.diff(second) > 1)
    starts = np.flatnonzero(is_first)
    pair_of_tie, first = pair[starts], second[starts]  # 0 for the least: the place, from 1, of the first one of a group
    tied = np.diff(starts, append=len(pair)) + 1.0
    if not len(starts):
        return np.zeros(len(bits)), np.zeros(len(bits))
    ahead = is_positive[pair, second + 1]
    above = np.add.reduceat(ahead, starts, dtype=np.float64) + is_positive[pair_of_tie, first]
    places = np.add.reduceat(ahead * (second + 2.0), starts) + is_positive[pair_of_tie, first] * (first + 1.0)
    moved = np.bincount(pair_of_tie, (first + 1 + (tied - 1) / 2) * above - places, minlength=len(bits))
    return moved.astype(np.float64), np.bincount(pair_of_tie, tied**3 - tied, minlength=len(bits)).astype(np.float64)


def signed_rank_test(differences: Floats, ranks: SignedRanks | None = None) -> Floats:
    """The two-sided p of Wilcoxon's signed-rank test over the differences that aren't 0: exact up to 50 of them
    without ties and up to 13 with ties (scipy), else by the normal distribution. ranks: of these differences."""
    ranks = signed_ranks(differences) if ranks is None else ranks
    p = np.ones(differences.shape[1])
    are_many = ranks.counts > MOST_EXACT
    p[are_many] = _normal_signed_rank_test(ranks)[are_many]
    has_ties = ranks.ties > 0
    for count, ties in dict.fromkeys(zip(ranks.counts.tolist(), has_ties.tolist(), strict=True)):
        if 0 < count <= MOST_EXACT:
            from scipy.stats import wilcoxon  # here, because it takes half a second to import

            chosen = (ranks.counts == count) & (has_ties == ties)
            columns = differences[:, chosen].T
            columns = columns[np.isfinite(columns) & (columns != 0)].reshape(-1, count)
            is_slow = ties and count <= MOST_TIED
            p[chosen] = wilcoxon_with_ties(columns) if is_slow else wilcoxon(columns, axis=1).pvalue
    return p


def _normal_signed_rank_test(ranks: SignedRanks) -> Floats:
    """scipy's for more than MOST_EXACT differences, bit by bit, which sorts them once more for it."""
    from scipy.special import ndtr

    n = ranks.counts.astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        error = np.sqrt((n * (n + 1.0) * (2.0 * n + 1.0) - ranks.ties / 2) / 24)
        return np.asarray(2 * ndtr(-np.abs((ranks.positive - n * (n + 1.0) * 0.25) / error)))


def wilcoxon_with_ties(differences: Floats) -> Floats:
    """The exact two-sided p of the signed-rank test, (columns, n) -> (columns,), over all 2^n signs of the ranks, which
    may be tied; none is 0. As scipy's, which takes seconds for it."""
    from scipy.stats import rankdata

    ranks = rankdata(np.abs(differences), axis=1)
    count = ranks.shape[1]
    signs = 2.0 * ((np.arange(2**count)[:, None] >> np.arange(count)) & 1) - 1
    seen = np.abs((np.sign(differences) * ranks).sum(axis=1))
    return np.asarray((np.abs(signs @ ranks.T) >= seen - 1e-9).mean(axis=0))  # sums of half ranks are exact


def rank_biserial(ranks: SignedRanks) -> Floats:
    """(ranks in favour - ranks against) / all ranks, of the differences that aren't 0; 0 where there are none."""
    total = ranks.positive + ranks.negative
    return np.divide(ranks.positive - ranks.negative, total, out=np.zeros_like(total), where=total > 0)


def normal_test(difference: Floats, error: Floats) -> Floats:
    """The two-sided p of differences with these standard errors, taken as normal; 1 for a difference of 0."""
    from scipy.special import ndtr

    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(difference == 0, 1.0, 2 * ndtr(-np.abs(difference) / error)))


def detectable(differences: Floats, are_binary: bool, tests: int) -> Floats:
    """The smallest difference that these images would have shown, see `smallest_shown`, with the standard error
    s / sqrt(n). (images, pairs), no NaN -> (pairs,).

    s: the spread that counts for Wilcoxon's test, 1.07 times the interquartile range of the means of two differences,
    which for normal differences is sqrt(pi / 3) standard deviations (Lehmann, Nonparametrics, 1975, 4.3); of values
    that are 0 or 1, and where this range is 0, the standard deviation.
    """
    count = len(differences)
    spread = differences.std(axis=0)
    if not are_binary:
        turns = range(1, 1 + max(1, min(count // 2, MOST_MEANS // count)))
        columns = np.ascontiguousarray(differences.T)
        means = np.concatenate([(columns + np.roll(columns, turn, axis=1)) / 2 for turn in turns], axis=1)
        low, high = np.quantile(means, [0.25, 0.75], axis=1, overwrite_input=True)
        spread = np.where(high > low, WILCOXON_SPREAD * (high - low), spread)
    return smallest_shown(spread / np.sqrt(count), tests, count)


def smallest_shown(error: Floats, tests: int, images: int) -> Floats:
    """The difference with this standard error that so many images show with a probability of 80 %, at 5 % over a family
    of so many tests: (t(1 - 0.05 / (2 tests)) + t(0.8)) error, t the quantiles of Student's distribution with one
    degree of freedom fewer than images. NaN for fewer than two images, and for an error of 0."""
    from scipy.special import stdtrit

    if images < 2:
        return np.full(len(error), np.nan)
    quantiles = stdtrit(images - 1, 1 - LEVEL / (2 * max(tests, 1))) + stdtrit(images - 1, POWER)
    return np.asarray(np.where(error > 0, quantiles * error, np.nan))


def holm(p_values: Iterable[float]) -> list[float]:
    """Holm's step-down adjustment, Scand. J. Statist. 1979: p for all of a family at once.

    Sorted, p_i becomes the largest of (m - j) p_j over j <= i (j from 0), at most 1; NaN stays NaN and isn't counted.
    """
    p = np.array(list(p_values), dtype=float)
    defined = np.flatnonzero(~np.isnan(p))
    order = defined[np.argsort(p[defined], kind="stable")]
    stepped = np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1)) if len(order) else p[order]
    p[order] = np.minimum(stepped, 1)
    return p.tolist()
