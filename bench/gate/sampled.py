"""The comparison of sampled sets: values by image, tested, in pairs where both sides have at least half of the images.
A change is a finding where it is significant, at 5 % after Holm over all that one gate tests, and its statistic moved
by more than the minimum effect."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd

from axiom_bench.errors import BenchError
from axiom_bench.gate.by_image import ByImage, rows_at
from axiom_bench.gate.findings import KEY, WHOLE_SET, Finding, Limit, Row, by_key, moved, tolerance
from axiom_bench.records.by_metric import image_numbers
from axiom_bench.statistics import paired_tests
from axiom_bench.statistics.bootstrap import (
    FEWEST_IMAGES,
    Floats,
    Integers,
    difference_intervals,
    expanded_quantiles,
    mean_intervals,
    median_intervals,
    resampled_medians,
)
from axiom_bench.statistics.labels import Value
from axiom_bench.statistics.paired_tests import LEVEL, are_equal, by_image, centre, rounding_of

PLACE = list(KEY[:3])
ROW = ["image_id", "target_class"]
SHARE_WITH_VALUE = Limit("share of rows with a value", 0.01, False)  # the minimum effect of values that come or go
SHARE = Value("share", "Share of rows with a value", better="higher", kind="proportion")
About = Mapping[str, Value]  # of each metric
Limits = Mapping[str, Sequence[Limit]]  # of each metric
FEWEST_SHARE = 0.5  # of the smaller set, that is paired
ENOUGH_IMAGES = 100  # in pairs, of which the test of a mean holds in every cell of docs/studies/statistics.md
FEW_IMAGES = (
    "Of {} images in pairs: where values are skewed, and their shape alone changes, a mean is called moved in up to "
    "9 % of comparisons, not 5 %; {} images or more hold it."
)


def values(before: ByImage, after: ByImage, limits: Limits, about: About) -> list[Finding]:
    """The changes of rows that both have. limits: of each metric, its minimum effects. Raises BenchError where so few
    images could show no change."""
    places = [set(side.values[PLACE].astype(str).itertuples(index=False, name=None)) for side in (before, after)]
    tests = [
        test
        for place in sorted(places[0] & places[1])
        for test in _of_setting(rows_at(before.values, place), rows_at(after.values, place), place, limits, about)
    ]
    are_same = set(before.values["image_id"]) == set(after.values["image_id"])
    tests += _of_whole_sets(before.whole_sets, after.whole_sets, are_same, limits, about)
    adjusted = paired_tests.holm(math.nan if test.p is None else test.p for test in tests)
    return [
        replace(test, text=f"{test.text}; p = {p:.2g} after Holm over {len(tests)} tests)", p=p)
        for test, p in zip(tests, adjusted, strict=True)
        if p < LEVEL and test.size > 1
    ]


def notes(findings: Sequence[Finding], before: ByImage, after: ByImage) -> tuple[str, ...]:
    """What a reader of the findings should know: whether means are of too few images."""
    images = [set(side.values["image_id"]) for side in (before, after)]
    common, is_mean = len(images[0] & images[1]), any(finding.what == "mean" and finding.p for finding in findings)
    is_few = FEWEST_SHARE * min(map(len, images)) <= common < ENOUGH_IMAGES
    return (FEW_IMAGES.format(common, ENOUGH_IMAGES),) if is_mean and is_few else ()


def minimum_effects(rows: pd.DataFrame, chosen: Mapping[str, str]) -> Limits:
    """Of each metric in a baseline: as chosen, else its tolerance. Raises BenchError for a metric that isn't there."""
    rules = dict(zip(rows["metric"].str.removesuffix(WHOLE_SET), rows["tolerance"], strict=True))
    for name in chosen:
        if name not in rules:
            raise BenchError(f"--min-effect names the metric {name!r}, which is not in the baseline.")
    return {name: tolerance(rule, name) for name, rule in {**rules, **chosen}.items()}


def fewest_images(tests: int) -> int:
    """How many images a family of so many tests needs to show anything: where m differ, p is 2^(1 - m) or more (see
    `paired_tests.p_of_interval`), and Holm asks for LEVEL / tests of the smallest.

    >>> fewest_images(1), fewest_images(250)
    (10, 14)
    """
    return max(math.floor(1 + math.log2(max(tests, 1) / LEVEL)) + 1, FEWEST_IMAGES)


def _of_setting(
    before: pd.DataFrame, after: pd.DataFrame, place: Row, limits: Limits, about: About
) -> Iterator[Finding]:
    old, new = _table(before), _table(after)
    columns = [column for column in old.columns if column in set(new.columns)]
    images = [set(table.index.get_level_values("image_id")) for table in (old, new)]
    common, smaller = len(images[0] & images[1]), min(map(len, images))
    is_paired = common >= FEWEST_SHARE * smaller
    images_to_compare, needed = common if is_paired else smaller, fewest_images(len(columns))
    if images_to_compare < needed:
        raise BenchError(
            f"{' '.join(place)} has {images_to_compare} images to compare, and {needed} are the fewest that could show "
            f"a change in one of {len(columns)} rows; run more images, or choose fewer methods and metrics."
        )
    if is_paired:
        rows = old.index.intersection(new.index, sort=True)
        old, new = old.reindex(rows), new.reindex(rows)
    sides = [table[columns].to_numpy(dtype=np.float64) for table in (old, new)]
    images_of = [image_numbers(table.index.get_level_values("image_id")) for table in (old, new)]
    pairing = f"{common} images in pairs" if is_paired else f"{len(images[0])} and {len(images[1])} images, not paired"
    tested = partial(_tested, images=images_of, is_paired=is_paired, pairing=f"; {pairing}")
    for column, names in enumerate(columns):
        key = (*place, *map(str, names))
        own = [side[:, column] for side in sides]
        has = [np.isfinite(side) for side in own]
        if is_paired:
            own = [np.where(has[0] & has[1], side, np.nan) for side in own]
        yield from tested(key, own, limits=limits[key[-1]], value=about[key[-1]])
        shares = [there.astype(float) for there in has]
        for test in tested(key, shares, limits=(SHARE_WITH_VALUE,), value=SHARE):
            yield replace(test, what="values")


def _table(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows (an image and a class) x columns (a method and a metric), NaN where there is no value."""
    names = ["method", "metric"]
    plain = rows[[*ROW, *names, "value"]].astype(dict.fromkeys(names, str)).drop_duplicates([*ROW, *names])
    return plain.set_index([*ROW, *names])["value"].unstack(names)


def _tested(
    key: Row, sides: Sequence[Floats], images: Sequence[Integers], is_paired: bool, pairing: str,
    limits: Sequence[Limit], value: Value,
) -> Iterator[Finding]:  # fmt: skip
    """The statistic that moved furthest beyond what is allowed, with its p before Holm; none without p."""
    if not all(np.isfinite(side).any() for side in sides):
        return
    changes = {}
    for limit in limits:
        statistic = "mean" if limit is SHARE_WITH_VALUE else limit.statistic
        before, after = (float(centre(side[:, None], statistic)[0]) for side in sides)
        changes[statistic] = moved(key, limit, before, after, value.better, pairing)
    statistic = max(changes, key=lambda name: changes[name].size)
    p = p_of_change(sides, images, is_paired, statistic, value)
    if not math.isnan(p):
        yield replace(changes[statistic], p=p)


def p_of_change(
    sides: Sequence[Floats], images: Sequence[Integers], is_paired: bool, statistic: str, value: Value
) -> float:
    """Of the difference between the means, or medians, of two sides, (rows,) each, NaN where a row has no value.

    images: of each side, the number of each row's image. NaN where no image differs, or all values are the
    same: nothing could be shown, whatever the truth, so that such a test isn't one of the family (Tarone, Biometrics
    1990)."""
    columns = [side[:, None] for side in sides]
    old, new = (centre(side, statistic) for side in columns)
    rounding = rounding_of(np.concatenate(sides), value)
    numbers = [np.unique(of_rows[np.isfinite(side)]) for side, of_rows in zip(sides, images, strict=True)]
    middle = new - old
    if is_paired:
        gain = by_image(columns[1], columns[0], images[0], rounding)
        differing, count = int((np.isfinite(gain) & (gain != 0)).sum()), len(numbers[0])
        if statistic == "mean":
            middle, low, high = difference_intervals(columns[1] - columns[0], images[0])
        else:
            resampled = [resampled_medians(side, images[0]) for side in columns]
            low, high = expanded_quantiles(resampled[1] - resampled[0], count)
    else:
        both = np.concatenate(sides)
        is_constant = bool(are_equal(np.fmin.reduce(both), np.fmax.reduce(both), rounding))
        differing = count = 0 if is_constant else min(map(len, numbers))
        intervals = partial(mean_intervals, is_proportion=value.is_proportion)
        ends = map(intervals if statistic == "mean" else median_intervals, columns, images)
        (old_low, old_high), (new_low, new_high) = ends
        # Of two independent statistics, from the interval of each (Zou and Donner, Stat. Med. 2008).
        low = middle - np.hypot(new - new_low, old_high - old)
        high = middle + np.hypot(new_high - new, old - old_low)
    if not differing or count < FEWEST_IMAGES:
        return math.nan
    return float(paired_tests.p_of_interval(middle, low, high, count, np.array([differing]))[0])


def _of_whole_sets(
    before: pd.DataFrame, after: pd.DataFrame, are_same: bool, limits: Limits, about: About
) -> Iterator[Finding]:
    """Values of whole data sets: by the standard deviation over the run's resamples of the images, of the differences
    where the images are the same (and so the resamples), else of both sides together."""
    old, new = by_key(before), by_key(after)
    for key in sorted(old.keys() & new.keys()):
        a, b = float(old[key]["value"]), float(new[key]["value"])
        sides = (side[key]["replicates"] for side in (old, new))
        one, two = (np.asarray([] if each is None else each, dtype=np.float64) for each in sides)
        if not (math.isfinite(a) and math.isfinite(b)) or min(len(one), len(two)) < 2:
            continue
        in_pairs = are_same and len(one) == len(two)
        error = (two - one).std(ddof=1) if in_pairs else math.hypot(one.std(ddof=1), two.std(ddof=1))
        p = float(paired_tests.normal_test(np.array([b - a]), np.array([error]))[0])
        name, better = (*key[:-1], f"{key[-1]}{WHOLE_SET}"), about[key[-1]].better
        changes = [moved(name, limit, a, b, better, "; of the whole set") for limit in limits[key[-1]]]
        yield replace(max(changes, key=lambda change: change.size), p=p)
