"""The comparison of sampled sets: values by image, tested, in pairs where both sides have at least half of the images.
A change is a finding where it is significant, at 5 % after Holm over all that one gate tests, and its statistic moved
by more than the minimum effect."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from axiom_bench.errors import BenchError
from axiom_bench.gate import findings
from axiom_bench.gate.by_image import ByImage, replicates_of, rows_at
from axiom_bench.gate.findings import KEY, WHOLE_SET, Better, Finding, Limit, Row, by_key, verdict
from axiom_bench.statistics import paired_tests
from axiom_bench.statistics.bootstrap import Floats, Integers
from axiom_bench.statistics.paired_tests import LEVEL, by_image, sign_test

PLACE = list(KEY[:3])
ROW = ["image_id", "target_class"]
SHARE_WITH_VALUE = Limit("share of rows with a value", 0.01, False)  # the minimum effect of values that come or go
FEWEST_SHARE = 0.5  # of the smaller set, that is paired


@dataclass(frozen=True)
class Test:
    """One of the family: a finding in waiting, its p before Holm, and whether it moved by the minimum effect."""

    finding: Finding
    p: float
    is_large: bool


def values(before: ByImage, after: ByImage, limits: Mapping[str, Sequence[Limit]], better: Better) -> list[Finding]:
    """The changes of rows that both have. limits: of each metric, its minimum effects. Raises BenchError where so few
    images could show no change."""
    tests = [
        test
        for place in sorted(_places(before.values) & _places(after.values))
        for test in _of_setting(rows_at(before.values, place), rows_at(after.values, place), place, limits, better)
    ]
    are_same = set(before.values["image_id"]) == set(after.values["image_id"])
    tests += list(_of_whole_sets(before.whole_sets, after.whole_sets, are_same, limits, better))
    adjusted = paired_tests.holm(test.p for test in tests)
    return [
        replace(test.finding, text=f"{test.finding.text}; p = {p:.2g} after Holm over {len(tests)} tests)", p=p)
        for test, p in zip(tests, adjusted, strict=True)
        if p < LEVEL and test.is_large
    ]


def minimum_effects(rows: pd.DataFrame, given: Mapping[str, str]) -> dict[str, tuple[Limit, ...]]:
    """Of each metric in a baseline: as given, else its tolerance. Raises BenchError for a metric that isn't there."""
    rules = dict(zip(rows["metric"].str.removesuffix(WHOLE_SET), rows["tolerance"], strict=True))
    for name in given:
        if name not in rules:
            raise BenchError(f"--min-effect names the metric {name!r}, which is not in the baseline.")
    return {name: findings.tolerance(given.get(name, rule), name) for name, rule in rules.items()}


def fewest_images(tests: int) -> int:
    """How many pairs a family of so many tests needs to show anything: of m pairs that all differ the same way the
    p of Wilcoxon's signed-rank test is 2^(1 - m), and Holm asks for LEVEL / tests of the smallest.

    >>> fewest_images(1), fewest_images(250)
    (6, 14)
    """
    return math.floor(1 + math.log2(max(tests, 1) / LEVEL)) + 1


def _of_setting(
    before: pd.DataFrame, after: pd.DataFrame, place: Row, limits: Mapping[str, Sequence[Limit]], better: Better
) -> Iterator[Test]:
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
    rows_of = [pd.factorize(table.index.get_level_values("image_id"))[0].astype(np.int64) for table in (old, new)]
    p_values, p_has = _paired(sides[0], sides[1], rows_of[0]) if is_paired else _unpaired(sides, rows_of)
    how = f"{common} images in pairs" if is_paired else f"{len(images[0])} and {len(images[1])} images, not paired"
    for column, names in enumerate(columns):
        key = (*place, *map(str, names))
        a, b = (side[:, column] for side in sides)
        yield from _tests(key, a, b, is_paired, float(p_values[column]), how, limits[key[-1]], better)
        if not math.isnan(p_has[column]):
            yield _share(key, np.isfinite(a), np.isfinite(b), float(p_has[column]), how)


def _table(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows (an image and a class) x columns (a method and a metric), NaN where there is no value."""
    names = ["method", "metric"]
    plain = rows[[*ROW, *names, "value"]].astype(dict.fromkeys(names, str)).drop_duplicates([*ROW, *names])
    return plain.set_index([*ROW, *names])["value"].unstack(names)


def _tests(
    key: Row, a: Floats, b: Floats, is_paired: bool, p: float, how: str, limits: Sequence[Limit], better: Better
) -> Iterator[Test]:
    """One test, of the statistic that moved furthest; none without p."""
    if math.isnan(p):
        return
    if is_paired:
        has = np.isfinite(a) & np.isfinite(b)
        a, b = a[has], b[has]
    moved = [_moved(key, limit, _statistic(a, limit), _statistic(b, limit), how, better) for limit in limits]
    finding, is_large = max(moved, key=lambda entry: entry[0].size)
    yield Test(finding, p, is_large)


def _moved(key: Row, limit: Limit, before: float, after: float, how: str, better: Better) -> tuple[Finding, bool]:
    text = findings.movement(limit.statistic, before, after, f"{limit}").removesuffix(")")
    which, allowed = verdict(before, after, findings.direction(key[-1], better)), limit.allowed(before)
    finding = Finding(key, limit.statistic, f"{text}; {how}", which, before, after, allowed)
    return finding, not limit.holds(before, after)


def _share(key: Row, before: NDArray[np.bool_], after: NDArray[np.bool_], p: float, how: str) -> Test:
    """Whether rows came to have a value, or lost it."""
    a, b = float(before.mean()), float(after.mean())
    finding, is_large = _moved(key, SHARE_WITH_VALUE, a, b, how, {})
    return Test(replace(finding, what="values", verdict=verdict(a, b, "higher")), p, is_large)


def _paired(a: Floats, b: Floats, images: Integers) -> tuple[Floats, Floats]:
    """p of each column of (rows, columns): of its values, NaN where there is none, and of which rows have one; NaN
    where no image differs. images: (rows,) the number of each row's image."""
    differences = by_image(b, a, images)
    gained = by_image(np.isfinite(b).astype(float), np.isfinite(a).astype(float), images)
    both = np.concatenate([a, b])
    is_binary = ((both == 0) | (both == 1) | ~np.isfinite(both)).all(axis=0)
    p = np.ones(len(is_binary))
    p[is_binary] = _signs(differences[:, is_binary])
    if not is_binary.all():
        p[~is_binary] = paired_tests.signed_rank_test(differences[:, ~is_binary])
    return _where_different(p, differences), _where_different(_signs(gained), gained)


def _signs(differences: Floats) -> Floats:
    return sign_test((differences > 0).sum(axis=0), (differences < 0).sum(axis=0))


def _where_different(p: Floats, differences: Floats) -> Floats:
    """Where no image differs nothing could be shown, whatever the truth: such a test isn't one of the family (Tarone,
    Biometrics 1990)."""
    return np.where((np.isfinite(differences) & (differences != 0)).any(axis=0), p, np.nan)


def _unpaired(sides: Sequence[Floats], images: Sequence[Integers]) -> tuple[Floats, Floats]:
    """As `_paired`, of images of which none need be the same: the test of Mann and Whitney of each image's mean."""
    has = [np.isfinite(side).astype(float) for side in sides]
    means, shares = (
        [by_image(v, np.zeros_like(v), i) for v, i in zip(kind, images, strict=True)] for kind in (sides, has)
    )
    return _rank_sum_test(*means), _rank_sum_test(*shares)


def _rank_sum_test(a: Floats, b: Floats) -> Floats:
    """(images, columns) each -> (columns,); NaN where a side has none, or all values are the same."""
    from scipy.stats import mannwhitneyu  # here, because it takes half a second to import

    p = np.full(a.shape[1], np.nan)
    for column in range(a.shape[1]):
        sides = [side[np.isfinite(side[:, column]), column] for side in (a, b)]
        if all(map(len, sides)):
            both = np.concatenate(sides)
            is_constant = bool(paired_tests.are_equal(both.min(keepdims=True), both.max(keepdims=True)).all())
            p[column] = np.nan if is_constant else float(mannwhitneyu(*sides, method="asymptotic").pvalue)
    return p


def _of_whole_sets(
    before: pd.DataFrame, after: pd.DataFrame, are_same: bool, limits: Mapping[str, Sequence[Limit]], better: Better
) -> Iterator[Test]:
    """Values of whole data sets: by the standard deviation over the run's resamples of the images, of the differences
    where the images are the same (and so the resamples), else of both sides together."""
    old, new = by_key(before), by_key(after)
    for key in sorted(old.keys() & new.keys()):
        a, b = float(old[key]["value"]), float(new[key]["value"])
        one, two = replicates_of(old[key]["replicates"]), replicates_of(new[key]["replicates"])
        if not (math.isfinite(a) and math.isfinite(b)) or min(len(one), len(two)) < 2:
            continue
        in_pairs = are_same and len(one) == len(two)
        error = (two - one).std(ddof=1) if in_pairs else math.hypot(one.std(ddof=1), two.std(ddof=1))
        p = float(paired_tests.normal_test(np.array([b - a]), np.array([error]))[0])
        name = (*key[:-1], f"{key[-1]}{WHOLE_SET}")
        moved = [_moved(name, limit, a, b, "of the whole set", better) for limit in limits[key[-1]]]
        finding, is_large = max(moved, key=lambda entry: entry[0].size)
        yield Test(finding, p, is_large)


def _statistic(values: Floats, limit: Limit) -> float:
    has = values[np.isfinite(values)]
    if not len(has):
        return math.nan
    return float(np.mean(has) if limit.statistic == "mean" else np.median(has))


def _places(rows: pd.DataFrame) -> set[Row]:
    return {tuple(map(str, place)) for place in rows[PLACE].drop_duplicates().itertuples(index=False)}
