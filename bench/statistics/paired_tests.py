"""Differences between two methods in the statistic that tables lead with, and their tests; the
methods that coincide; Holm's adjustment, what so many images would show.

A difference is that of two means, or of two medians, over rows. Its interval, its test and its
standard error are by image: all rows of an image are drawn together, so that an image counts by its
rows in all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from axiom_bench.columns import LAYER, OK, WHOLE_SET
from axiom_bench.errors import unknown
from axiom_bench.records.by_metric import image_numbers
from axiom_bench.statistics.bootstrap import (
    FEWEST_IMAGES,
    MOST_UNITS,
    TAIL,
    Floats,
    Integers,
    difference_intervals,
    expanded_quantiles,
    in_groups,
    resampled_medians,
)
from axiom_bench.statistics.labels import FLOAT32_ROUNDING, Value

RELATIVE_TIE = (
    1e-5  # of the larger value, or of the spread: what another batch size may change in float32
)
AT_ONCE = 2**22  # differences of pairs in memory
FEW = 20
POWER = 0.8
LEVEL = 0.05  # of a family: below it a difference is called significant
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


def rounding_of(values: Floats, value: Value) -> float:
    """The difference up to which this metric's values may be equal but for rounding:
    FLOAT32_ROUNDING of kinds on a scale of 1, else RELATIVE_TIE times the distance between the
    quartiles of all values.
    """
    if value.has_unit_scale:
        return FLOAT32_ROUNDING
    finite = values[np.isfinite(values)]
    return (
        RELATIVE_TIE * float(np.subtract(*np.quantile(finite, [0.75, 0.25])))
        if len(finite)
        else 0.0
    )


def are_equal(
    first: Floats, second: Floats, rounding: float | Floats = FLOAT32_ROUNDING
) -> NDArray[np.bool_]:
    """Whether values are equal but for rounding: see `rounding_of`."""
    larger = np.maximum(np.abs(first), np.abs(second))
    return np.asarray(np.abs(first - second) <= np.maximum(rounding, RELATIVE_TIE * larger))


def by_image(
    first: Floats, second: Floats, images: Integers, rounding: float | Floats = FLOAT32_ROUNDING
) -> Floats:
    """(rows, pairs) each -> (images, pairs): first - second, the mean over an image's rows that
    have both values, else NaN. Equal values differ by 0, and so do rows of an image that cancel.
    """
    mean = means_by_image(np.where(are_equal(first, second, rounding), 0.0, first - second), images)
    return np.where(np.abs(mean) <= rounding, 0.0, mean)


def means_by_image(values: Floats, images: Integers) -> Floats:
    """(rows, columns) -> (images, columns): the mean over an image's rows that have a value, else
    NaN.
    """
    order, starts = in_groups(images)
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
    if has.all() and len(has):
        return np.asarray(
            np.median(np.ascontiguousarray(differences.T), axis=1)
        )  # in a fraction of nanmedian's time
    medians = np.full(differences.shape[1], np.nan)
    if len(filled := np.flatnonzero(has.any(axis=0))):
        medians[filled] = np.nanmedian(differences[:, filled], axis=0)
    return medians


def coinciding(
    values: Floats, methods: Sequence[str], rounding: float | Floats = FLOAT32_ROUNDING
) -> tuple[tuple[str, ...], ...]:
    """Groups of methods whose values are equal in every row but for rounding, each method in one,
    in the given order.

    values: (rows, methods), NaN where a method has no value. Methods that have values in different
    rows differ. rounding: see `rounding_of`; one number, or one for each row.
    """
    rounding = np.broadcast_to(rounding, len(values))
    few = _are_same(
        values[:FEW, :, None], values[:FEW, None], rounding[:FEW, None, None]
    )  # nearly always tells

    def are_same(one: int, other: int) -> bool:
        return bool(few[one, other] and _are_same(values[:, one], values[:, other], rounding))

    groups: list[list[int]] = []
    for place in range(len(methods)):
        same = (group for group in groups if any(are_same(place, at) for at in group))
        if (group := next(same, None)) is None:
            groups.append([place])
        else:
            group.append(place)
    return tuple(tuple(methods[place] for place in group) for group in groups)


def _are_same(first: Floats, second: Floats, rounding: Floats) -> NDArray[np.bool_]:
    """Whether all rows are."""
    missing = np.isnan(first) & np.isnan(second)
    return np.asarray((are_equal(first, second, rounding) | missing).all(axis=0))


def compare(
    records: pd.DataFrame,
    control: str,
    better: Mapping[str, str],
    kinds: Mapping[str, str] | None = None,
) -> pd.DataFrame:
    """`control` against every other method of one setting's records, metric by metric: a row of
    COMPARE_COLUMNS for each pair, over the rows where both have a value; see `tests`. adjusted: p
    after Holm, over a metric's methods. is_better: whether the control's mean, or median, is.

    better: metric -> "lower" or "higher"; others are left out. kinds: metric -> its YAML's kind,
    "unbounded" where it isn't given; of "ratio" and "squared" the medians are compared. Raises
    BenchError, with the nearest names, where the records have no such method or metric.
    """
    kinds = kinds or {}
    chosen = {
        name: Value(name, name, better=way, kind=kinds.get(name, "unbounded"))
        for name, way in better.items()
    }
    for kind, names in (("method", [control]), ("metric", list(chosen))):
        present = set(map(str, records[kind].unique())) - {LAYER}
        for name in names:
            if name not in present:
                raise unknown(kind, name, present)
    single = records[(records["status"] == OK) & (records["image_id"] != WHOLE_SET)]
    parts = []
    for metric, value in chosen.items():
        of_metric = single[single["metric"] == metric].astype({"method": object})
        table = of_metric.pivot_table("value", ROW, "method", observed=True, sort=False)
        others = [str(name) for name in table if name != control] if control in table else []
        if others:
            pairs = [
                _of_both(table[[control, name]].dropna(), value).assign(method=name)
                for name in others
            ]
            tested = pd.concat(pairs, ignore_index=True)
            sign = 1 if value.better == "higher" else -1
            is_better = sign * tested["difference"] > 0
            parts.append(
                tested.assign(metric=metric, adjusted=holm(tested["p"]), is_better=is_better)
            )
    columns = list(COMPARE_COLUMNS)
    return pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)


def _of_both(table: pd.DataFrame, value: Value) -> pd.DataFrame:
    values = table.to_numpy(dtype=np.float64)
    images = image_numbers(table.index.get_level_values("image_id"))
    return tests(values, images, np.array([0]), np.array([1]), value)


def tests(
    values: Floats, images: Integers, left: Integers, right: Integers, value: Value
) -> pd.DataFrame:
    """A row for each pair of columns, left against right: n, better, same, worse, difference, low,
    high, p, by_images.

    values: (rows, columns) of one metric, without NaN. images: (rows,) the number of each row's
    image. n: images. better, same, worse: on how many of them the left column is, by its mean over
    the image's rows. difference: of the two means or medians, with its 95 % interval, see
    `bootstrap`. p: see `p_of_interval`; 1 where the two are equal but for rounding. by_images: p of
    the sign test, whether one column is better on more images.
    """
    rounding, centres = rounding_of(values, value), centre(values, value.lead)
    sampled = resampled_medians(values, images) if value.lead == "median" and len(values) else None
    step, parts = max(1, AT_ONCE // max(len(values), 1)), []
    for chosen in (slice(start, start + step) for start in range(0, len(left), step)):
        one, two = left[chosen], right[chosen]
        first, second = values[:, one], values[:, two]
        gain = by_image(first, second, images, rounding) * (1 if value.better == "higher" else -1)
        n, ahead, behind = len(gain), (gain > 0).sum(axis=0), (gain < 0).sum(axis=0)
        difference = middle = centres[one] - centres[two]
        if n < FEWEST_IMAGES:
            low, high = np.full((2, len(one)), np.nan)
        elif sampled is None:
            middle, low, high = difference_intervals(first - second, images)
        else:
            low, high = expanded_quantiles(sampled[:, one] - sampled[:, two], n)
        p = p_of_interval(middle, low, high, n, ahead + behind)
        p[are_equal(centres[one], centres[two], rounding) & np.isfinite(low)] = 1.0
        parts.append({
            "n": np.full(len(one), n), "better": ahead, "same": n - ahead - behind, "worse": behind,
            "difference": difference, "low": low, "high": high, "p": p, "by_images": sign_test(ahead, behind),
        })  # fmt: skip
    return pd.concat(map(pd.DataFrame, parts), ignore_index=True)


def p_of_interval(
    difference: Floats, low: Floats, high: Floats, images: int, differing: Integers
) -> Floats:
    """The two-sided p of the test that goes with a 95 % interval: below 0.05 where the interval
    leaves 0 out, unless five images or fewer differ.

    Student's, of the standard error that its narrower side shows. Where the side of 0 is the wider
    one, as of skewed values, what it has in excess grows with the square of the distance (Cornish
    and Fisher, Rev. I.S.I. 1938). At least 2^(1 - m), where m images differ: if every image could
    as well have had the other sign, all would agree with this probability. NaN without an interval.
    """
    from scipy.special import stdtr, stdtrit

    degrees = max(min(images, MOST_UNITS) - 1, 1)
    student = stdtrit(degrees, 1 - TAIL)
    below, above = np.maximum(difference - low, 0.0), np.maximum(high - difference, 0.0)
    side, other = np.where(difference > 0, [below, above], [above, below])
    narrow = np.minimum(side, other)
    with np.errstate(invalid="ignore", divide="ignore"):
        # q = (sqrt(1 + 8 e (d - e)) - 1) / (4 e), where d and e are the distance and the excess
        # over the narrower side, as 2 (d - e) / (1 + sqrt(1 + 8 e (d - e))), whose digits don't
        # cancel, and times that side, which may be 0.
        excess = np.where(side > narrow, side - narrow, 0.0) * student / (2 * student**2 + 1)
        rest = np.maximum(student * np.abs(difference) - excess, 0.0)
        root = np.hypot(narrow, np.sqrt(8 * excess) * np.sqrt(rest))
        p = 2 * stdtr(degrees, -np.where(rest > 0, 2 * rest / (narrow + root), 0.0))
    p = np.where(
        (low > 0) | (high < 0), p, np.maximum(p, LEVEL)
    )  # of an end at 0 rounding may say otherwise
    p = np.maximum(p, np.minimum(2.0 ** (1 - differing), 1.0))
    return np.where(np.isnan(low), np.nan, np.where(difference == 0, 1.0, p))


def detectable(low: Floats, high: Floats, images: int, tests: int) -> Floats:
    """`smallest_shown` by differences with these 95 % intervals."""
    from scipy.special import stdtrit

    width = 2 * stdtrit(max(min(images, MOST_UNITS) - 1, 1), 1 - TAIL)
    return smallest_shown((high - low) / width, tests, images)


def sign_test(ahead: Integers, behind: Integers) -> Floats:
    """The exact two-sided p of so many signs, each as likely as the other."""
    from scipy.special import bdtr

    return np.minimum(1.0, 2 * bdtr(np.minimum(ahead, behind), ahead + behind, 0.5))


def normal_test(difference: Floats, error: Floats) -> Floats:
    """The two-sided p of differences with these standard errors, taken as normal; 1 for a
    difference of 0.
    """
    from scipy.special import ndtr

    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(difference == 0, 1.0, 2 * ndtr(-np.abs(difference) / error)))


def smallest_shown(error: Floats, tests: int, images: int) -> Floats:
    """The difference with this standard error that so many images show with a probability of 80 %,
    at 5 % over a family of so many tests. It is (t(1 - 0.05 / (2 tests)) + t(0.8)) error, t the
    quantiles of Student's distribution with one degree of freedom fewer than images. NaN for fewer
    than two images, and for an error of 0.
    """
    from scipy.special import stdtrit

    if images < 2:
        return np.full(len(error), np.nan)
    quantiles = stdtrit(images - 1, 1 - LEVEL / (2 * max(tests, 1))) + stdtrit(images - 1, POWER)
    return np.asarray(np.where(error > 0, quantiles * error, np.nan))


def images_to_separate(difference: Floats, detectable: Floats, images: int) -> Floats:
    """Return how many images would show each of these differences between two methods, with a
    probability of 80 %.

    The standard error of a difference falls with the root of the number of images, so n images show
    it where detectable sqrt(images / n) is the difference. At least FEWEST_IMAGES, since fewer have
    no test.

    Args:
        difference: The differences between two methods.
        detectable: The smallest difference that `images` images show, see `smallest_shown`; NaN
            without an error.
        images: The number of images that the differences were measured on.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.nan_to_num(detectable) / np.abs(difference)
    needed = np.where(difference == 0, np.inf, np.maximum(images * ratio**2, FEWEST_IMAGES))
    return np.asarray(needed)


def holm(p_values: Iterable[float]) -> list[float]:
    """Holm's step-down adjustment, Scand. J. Statist. 1979: p for all of a family at once.

    Sorted, p_i becomes the largest of (m - j) p_j over j <= i (j from 0), at most 1; NaN stays NaN
    and isn't counted.
    """
    p = np.array(list(p_values), dtype=float)
    defined = np.flatnonzero(~np.isnan(p))
    order = defined[np.argsort(p[defined], kind="stable")]
    stepped = (
        np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1)) if len(order) else p[order]
    )
    p[order] = np.minimum(stepped, 1)
    return p.tolist()
