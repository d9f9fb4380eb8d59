"""Differences between two methods in the statistic that tables lead with, and their tests. This
module also finds methods that coincide, adjusts p values after Holm, and computes the difference
that a number of images would show.

A difference is that of two means, or of two medians, over rows. Its interval, its test and its
standard error are by image: all rows of an image are drawn together, so that an image counts by its
number of rows in all of them. `comparison` tests all pairs of a metric with it, and
`axiom_bench.compare` one method against all others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from axiom_bench.columns import LAYER, OK, WHOLE_SET
from axiom_bench.errors import BenchError, unknown_name
from axiom_bench.records.by_metric import image_numbers
from axiom_bench.statistics.bootstrap import (
    FEWEST_IMAGES,
    LEVEL,
    MOST_UNITS,
    Floats,
    Integers,
    difference_intervals,
    expanded_quantiles,
    group_order,
    resampled_medians,
)
from axiom_bench.statistics.labels import FLOAT32_ROUNDING, Value

# Another batch size may change a float32 value by this share of the larger value, or of the spread.
RELATIVE_TIE = 1e-5
AT_ONCE = 2**22  # differences of pairs in memory
FEW = 20  # rows that nearly always tell methods apart
POWER = 0.8
COMPARE_COLUMNS = (
    "method",
    "metric",
    "n",
    "better",
    "same",
    "worse",
    "difference",
    "p",
    "adjusted",
    "is_better",
)
ROW = ["image_id", "target_class"]
SETTING = ("model", "layer", "data")  # the columns of a setting


def rounding_of(values: Floats, value: Value) -> float:
    """Return the difference up to which values of this metric may be equal except for rounding.
    Methods that coincide by algebra differ by that much.

    It is FLOAT32_ROUNDING for kinds on a scale of 1, and otherwise RELATIVE_TIE times the distance
    between the quartiles of all values.
    """
    if value.has_unit_scale:
        return FLOAT32_ROUNDING
    finite = values[np.isfinite(values)]
    if not len(finite):
        return 0.0
    upper, lower = np.quantile(finite, [0.75, 0.25])
    return RELATIVE_TIE * float(upper - lower)


def are_equal(
    first: Floats, second: Floats, rounding: float | Floats = FLOAT32_ROUNDING
) -> NDArray[np.bool_]:
    """Return whether values are equal except for rounding: see `rounding_of`."""
    larger = np.maximum(np.abs(first), np.abs(second))
    return np.asarray(np.abs(first - second) <= np.maximum(rounding, RELATIVE_TIE * larger))


def by_image(
    first: Floats, second: Floats, images: Integers, rounding: float | Floats = FLOAT32_ROUNDING
) -> Floats:
    """Return first - second, (rows, pairs) each -> (images, pairs): the mean over an image's rows
    that have both values, or NaN without such rows.

    Equal values differ by 0, and so do rows of an image that cancel.
    """
    differences = np.where(are_equal(first, second, rounding), 0.0, first - second)
    mean = means_by_image(differences, images)
    return np.where(np.abs(mean) <= rounding, 0.0, mean)


def means_by_image(values: Floats, images: Integers) -> Floats:
    """Return the means over an image's rows that have a value, or NaN without such rows: (rows,
    columns) -> (images, columns).
    """
    order, starts = group_order(images)
    if len(starts) == len(values):  # each image has one row
        return np.where(np.isfinite(values), values, np.nan)[order]
    has = np.isfinite(values)[order]
    total = np.add.reduceat(np.where(has, values[order], 0.0), starts, axis=0)
    with np.errstate(invalid="ignore"):
        return np.asarray(total / np.add.reduceat(has, starts, axis=0, dtype=np.int64))


def centre(differences: Floats, lead: str) -> Floats:
    """Return the mean or median (`lead`) of each column without its NaN; NaN for an empty
    column.
    """
    has = np.isfinite(differences)
    if lead == "mean":
        with np.errstate(invalid="ignore"):
            return np.asarray(np.where(has, differences, 0.0).sum(axis=0) / has.sum(axis=0))
    if has.all() and len(has):  # this takes a fraction of nanmedian's time
        columns = np.ascontiguousarray(differences.T)
        return np.asarray(np.median(columns, axis=1))
    medians = np.full(differences.shape[1], np.nan)
    filled = np.flatnonzero(has.any(axis=0))
    if len(filled):
        medians[filled] = np.nanmedian(differences[:, filled], axis=0)
    return medians


def coinciding(
    values: Floats, methods: Sequence[str], rounding: float | Floats = FLOAT32_ROUNDING
) -> tuple[tuple[str, ...], ...]:
    """Return groups of methods whose values are equal in every row except for rounding. Each method
    is in one group, in the given order.

    `values` has shape (rows, methods), and is NaN if a method has no value. Methods that have
    values in different rows differ. `rounding` is one number, or one per row: see `rounding_of`.
    """
    rounding = np.broadcast_to(rounding, len(values))
    # comparing all rows of all pairs would take long, and a few rows nearly always tell
    may_coincide = _are_same(values[:FEW, :, None], values[:FEW, None], rounding[:FEW, None, None])

    def are_same(first: int, second: int) -> bool:
        if not may_coincide[first, second]:
            return False
        return bool(_are_same(values[:, first], values[:, second], rounding))

    groups: list[list[int]] = []
    for column in range(len(methods)):
        for group in groups:
            if any(are_same(column, member) for member in group):
                group.append(column)
                break
        else:
            groups.append([column])
    return tuple(tuple(methods[column] for column in group) for group in groups)


def _are_same(first: Floats, second: Floats, rounding: Floats) -> NDArray[np.bool_]:
    """Return whether all rows are equal except for rounding, or are missing in both."""
    missing = np.isnan(first) & np.isnan(second)
    return np.asarray((are_equal(first, second, rounding) | missing).all(axis=0))


def compare(
    records: pd.DataFrame,
    control: str,
    better: Mapping[str, str],
    kinds: Mapping[str, str] | None = None,
    level: float = LEVEL,
) -> pd.DataFrame:
    """Compare `control` with every other method of one setting's records, metric by metric, over
    the rows in which both have a value: see `tests`.

    Args:
        records: The records of one setting.
        control: The method to compare.
        better: {metric: "lower" or "higher"}. Other metrics are left out.
        kinds: {metric: the kind in its YAML}, "unbounded" by default. For "ratio" and "squared",
            the medians are compared.
        level: The level of the tests. `p` comes from the interval of this level.

    Returns:
        A row of COMPARE_COLUMNS per pair. `adjusted` is p after Holm, over a metric's methods.
            `is_better` is True if the mean, or median, of `control` is better.

    Raises:
        BenchError: If the records are of several settings, or have no such method or metric; the
            message has the nearest names. Also for another direction than these two.
    """
    for metric, direction in better.items():
        if direction not in ("lower", "higher"):
            raise BenchError(f"better[{metric!r}] is 'lower' or 'higher', not {direction!r}.")
    for column in SETTING:
        names = [str(name) for name in records[column].unique()] if column in records else []
        if len(names) > 1:
            raise BenchError(
                f"These records have several values of {column!r}: {', '.join(names)}. Compare one "
                f"at a time: records[records[{column!r}] == {names[0]!r}]."
            )
    kinds = kinds or {}
    values_by_metric = {
        name: Value(name, name, better=direction, kind=kinds.get(name, "unbounded"))
        for name, direction in better.items()
    }
    for kind, names in (("method", [control]), ("metric", list(values_by_metric))):
        present = set(map(str, records[kind].unique())) - {LAYER}
        for name in names:
            if name not in present:
                raise unknown_name(kind, name, present)
    single = records[(records["status"] == OK) & (records["image_id"] != WHOLE_SET)]
    parts = []
    for metric, value in values_by_metric.items():
        rows = single[single["metric"] == metric].astype({"method": object})
        table = rows.pivot_table("value", ROW, "method", observed=True, sort=False)
        others = [str(name) for name in table if name != control] if control in table else []
        if not others:
            continue
        pairs = []
        for name in others:
            both = table[[control, name]].dropna()  # each pair has its own rows
            images = image_numbers(both.index.get_level_values("image_id"))
            pair_values = both.to_numpy(dtype=np.float64)
            pair = tests(pair_values, images, np.array([0]), np.array([1]), value, level)
            pairs.append(pair.assign(method=name))
        tested = pd.concat(pairs, ignore_index=True)
        sign = 1 if value.better == "higher" else -1
        is_better = sign * tested["difference"] > 0
        parts.append(tested.assign(metric=metric, adjusted=holm(tested["p"]), is_better=is_better))
    columns = list(COMPARE_COLUMNS)
    return pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)


def tests(
    values: Floats,
    images: Integers,
    left: Integers,
    right: Integers,
    value: Value,
    level: float,
) -> pd.DataFrame:
    """Test pairs of columns, left against right.

    Args:
        values: (rows, columns) of one metric, without NaN.
        images: (rows,) the number of each row's image.
        left: (pairs,) the first column of each pair.
        right: (pairs,) the second column of each pair.
        value: The metric.
        level: The level of the tests and of the intervals.

    Returns:
        A row per pair. `n` is the number of images. `better`, `same` and `worse` are the numbers of
            images on which the left column is so, by its mean over the image's rows. `difference`
            is that of the two means or medians, and `low` and `high` are its interval: see
            `bootstrap`. `p` is `p_of_interval`, or 1 if the two are equal except for rounding.
            `by_images` is the p of the sign test, whether one column is better on more images.
    """
    rounding = rounding_of(values, value)
    centres = centre(values, value.lead)
    sampled = resampled_medians(values, images) if value.lead == "median" and len(values) else None
    sign = 1 if value.better == "higher" else -1
    # many pairs of many rows don't fit into memory at once
    step = max(1, AT_ONCE // max(len(values), 1))
    parts = []
    for start in range(0, len(left), step):
        left_columns = left[start : start + step]
        right_columns = right[start : start + step]
        first = values[:, left_columns]
        second = values[:, right_columns]
        gain = by_image(first, second, images, rounding) * sign
        n = len(gain)
        ahead = (gain > 0).sum(axis=0)
        behind = (gain < 0).sum(axis=0)
        difference = centres[left_columns] - centres[right_columns]
        middle = difference
        if n < FEWEST_IMAGES:
            low, high = np.full((2, len(left_columns)), np.nan)
        elif sampled is None:
            middle, low, high = difference_intervals(first - second, images, level)
        else:
            sampled_differences = sampled[:, left_columns] - sampled[:, right_columns]
            low, high = expanded_quantiles(sampled_differences, n, level)
        p = p_of_interval(middle, low, high, n, ahead + behind, level)
        is_tie = are_equal(centres[left_columns], centres[right_columns], rounding)
        p[is_tie & np.isfinite(low)] = 1.0
        columns = {
            "n": np.full(len(left_columns), n),
            "better": ahead,
            "same": n - ahead - behind,
            "worse": behind,
            "difference": difference,
            "low": low,
            "high": high,
            "p": p,
            "by_images": sign_test(ahead, behind),
        }
        parts.append(pd.DataFrame(columns))
    return pd.concat(parts, ignore_index=True)


def p_of_interval(
    difference: Floats,
    low: Floats,
    high: Floats,
    images: int,
    differing: Integers,
    level: float = LEVEL,
) -> Floats:
    """Return the two-sided p of the test that goes with an interval; NaN without an interval.

    It is below `level` if the interval doesn't contain 0, unless five images or fewer differ.

    The test is Student's, with the standard error that the interval's narrower side shows. If the
    side towards 0 is the wider one, as for skewed values, its excess grows with the square of the
    distance (Cornish and Fisher, Rev. I.S.I. 1938).

    p is at least 2^(1 - m) if m images differ: if every image could as well have had the other
    sign, all would agree with this probability.
    """
    from scipy.special import stdtr, stdtrit

    degrees = max(min(images, MOST_UNITS) - 1, 1)
    student = stdtrit(degrees, 1 - level / 2)
    below = np.maximum(difference - low, 0.0)
    above = np.maximum(high - difference, 0.0)
    side, other = np.where(difference > 0, [below, above], [above, below])
    narrow = np.minimum(side, other)
    with np.errstate(invalid="ignore", divide="ignore"):
        # q = (sqrt(1 + 8 e (d - e)) - 1) / (4 e), where d and e are the distance and the excess
        # over the narrower side. It is computed as 2 (d - e) / (1 + sqrt(1 + 8 e (d - e))), whose
        # digits don't cancel, and times that side, which may be 0.
        excess = np.where(side > narrow, side - narrow, 0.0) * student / (2 * student**2 + 1)
        rest = np.maximum(student * np.abs(difference) - excess, 0.0)
        root = np.hypot(narrow, np.sqrt(8 * excess) * np.sqrt(rest))
        p = 2 * stdtr(degrees, -np.where(rest > 0, 2 * rest / (narrow + root), 0.0))
    # if an end of the interval is 0, rounding may give a p below the level
    p = np.where((low > 0) | (high < 0), p, np.maximum(p, level))
    p = np.maximum(p, np.minimum(2.0 ** (1 - differing), 1.0))
    return np.where(np.isnan(low), np.nan, np.where(difference == 0, 1.0, p))


def detectable(low: Floats, high: Floats, images: int, tests: int, level: float = LEVEL) -> Floats:
    """Return `detectable_difference` for differences with these intervals of the level."""
    from scipy.special import stdtrit

    width = 2 * stdtrit(max(min(images, MOST_UNITS) - 1, 1), 1 - level / 2)
    return detectable_difference((high - low) / width, tests, images, level)


def sign_test(ahead: Integers, behind: Integers) -> Floats:
    """Return the exact two-sided p of these numbers of signs, each as likely as the other."""
    from scipy.special import bdtr

    p_values: Floats = np.minimum(1.0, 2 * bdtr(np.minimum(ahead, behind), ahead + behind, 0.5))
    return p_values


def normal_test(difference: Floats, error: Floats) -> Floats:
    """Return the two-sided p of differences with these standard errors, which are taken as normal;
    1 for a difference of 0.
    """
    from scipy.special import ndtr

    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(difference == 0, 1.0, 2 * ndtr(-np.abs(difference) / error)))


def detectable_difference(error: Floats, tests: int, images: int, level: float = LEVEL) -> Floats:
    """Return the difference with this standard error that this number of images shows with a
    probability of 80 %, at a level over a family of this number of tests.

    It is (t(1 - level / (2 tests)) + t(0.8)) error, where t are the quantiles of Student's
    distribution with one degree of freedom fewer than images. It is NaN for fewer than two images,
    and for an error of 0.
    """
    from scipy.special import stdtrit

    if images < 2:
        return np.full(len(error), np.nan)
    tail = level / (2 * max(tests, 1))
    quantiles = stdtrit(images - 1, 1 - tail) + stdtrit(images - 1, POWER)
    return np.asarray(np.where(error > 0, quantiles * error, np.nan))


def images_to_separate(difference: Floats, detectable: Floats, images: int) -> Floats:
    """Return the number of images that would show each of these differences between two methods
    with a probability of 80 %.

    The standard error of a difference falls with the root of the number of images. So n images show
    it if detectable sqrt(images / n) is the difference. The number is at least FEWEST_IMAGES,
    because fewer images have no test.

    Args:
        difference: The differences between two methods.
        detectable: The smallest difference that `images` images show, see `detectable_difference`;
            NaN without an error.
        images: The number of images that the differences were measured on.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.nan_to_num(detectable) / np.abs(difference)
    needed = np.where(difference == 0, np.inf, np.maximum(images * ratio**2, FEWEST_IMAGES))
    return np.asarray(needed)


def holm(p_values: Iterable[float]) -> list[float]:
    """Adjust the p values of a family for all of them at once, by Holm's step-down method, Scand.
    J. Statist. 1979.

    Sorted, p_i becomes the largest of (m - j) p_j over j <= i (j from 0), at most 1. NaN stays NaN
    and isn't counted.
    """
    p = np.array(list(p_values), dtype=float)
    defined = np.flatnonzero(~np.isnan(p))
    order = defined[np.argsort(p[defined], kind="stable")]
    if len(order):
        stepped = np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1))
        p[order] = np.minimum(stepped, 1)
    adjusted: list[float] = p.tolist()
    return adjusted
