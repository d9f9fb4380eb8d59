"""Tests of tests and intervals at other levels than 5 %, against closed forms and brute force."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm, t

from axiom_bench.statistics import bootstrap, paired_tests
from axiom_bench.statistics.bootstrap import (
    LEVEL,
    NORMAL,
    RESAMPLES,
    difference_intervals,
    mean_intervals,
    median_intervals,
    normal_reach,
    over_networks,
    resamples,
)
from axiom_bench.statistics.comparison import compare_methods, compare_whole_sets
from axiom_bench.statistics.labels import Value, confidence, percent
from axiom_bench.statistics.mean_ranks import critical_difference

LEVELS = pytest.mark.parametrize("level", [0.2, 0.05, 0.01, 0.002])
IMAGES = np.arange(40)


@pytest.fixture
def values():
    return np.random.default_rng(0).gamma(1.5, size=(40, 3))


def test_the_default_is_as_before():
    assert LEVEL == 0.05
    assert normal_reach(LEVEL) == NORMAL == 1.959964
    assert bootstrap.TAIL == 0.025
    assert (percent(0.01), confidence(0.01), confidence(0.002)) == ("1 %", "99 %", "99.8 %")


@LEVELS
def test_means(values, level):
    """The bootstrap-t interval of one column, by a loop over the resamples."""
    found = mean_intervals(values, IMAGES, level=level)
    for column, ends in zip(values.T, found.T, strict=True):
        n = len(column)
        mean = column.mean()
        error = column.std(ddof=1) / n**0.5
        means = []
        standardised = []
        for counts in resamples(n):
            sample = np.repeat(column, counts.astype(int))
            means.append(sample.mean())
            standardised.append((sample.mean() - mean) / (sample.std(ddof=1) / n**0.5))
        student = t.ppf(1 - level / 2, n - 1)
        number = round(level / 2 * (RESAMPLES - 1))
        other = round((1 - level / 2) * (RESAMPLES - 1))
        below, above = np.sort(standardised)[[number, other]]
        low = mean - np.clip(above, student, 2 * student) * error
        high = mean + np.clip(-below, student, 2 * student) * error
        low = min(low, np.sort(means)[number])
        high = max(high, np.sort(means)[other])
        expected = np.clip([low, high], column.min(), column.max())
        assert ends == pytest.approx(expected, rel=1e-9)  # sums in another order


@LEVELS
def test_medians(values, level):
    found = median_intervals(values[:39], IMAGES[:39], level)  # of an odd number
    for column, ends in zip(values[:39].T, found.T, strict=True):
        medians = [np.median(np.repeat(column, counts.astype(int))) for counts in resamples(39)]
        ranks = np.ceil(np.array([level / 2, 1 - level / 2]) * RESAMPLES).astype(int) - 1
        assert ends.tolist() == np.sort(medians)[ranks].tolist()


@LEVELS
@pytest.mark.parametrize("kind", ["unbounded", "ratio"])
def test_p_is_below_the_level_if_the_interval_excludes_0(level, kind):
    generator = np.random.default_rng(1)
    outcomes = set()
    for shift in np.linspace(0, 0.8, 60):
        both = generator.normal(size=(40, 2)) + np.array([shift, 0])
        value = Value("e", "E", better="lower", kind=kind)
        left = np.array([0])
        right = np.array([1])
        (row,) = paired_tests.tests(both, IMAGES, left, right, value, level).to_dict("records")
        is_outside = row["low"] > 0 or row["high"] < 0
        assert is_outside == (row["p"] < level)
        outcomes.add(is_outside)
    assert outcomes == {True, False}


@LEVELS
def test_detectable_difference(level):
    found = paired_tests.detectable_difference(np.array([0.1]), 3, 20, level)
    assert found == pytest.approx(0.1 * (t.ppf(1 - level / 6, 19) + t.ppf(0.8, 19)))
    low = np.array([-0.1])
    high = np.array([0.1])
    width = t.ppf(1 - level / 2, 19)
    found = paired_tests.detectable(low, high, 20, 3, level)
    assert found == pytest.approx(0.1 / width * (t.ppf(1 - level / 6, 19) + t.ppf(0.8, 19)))


@LEVELS
def test_whole_data_sets(level):
    generator = np.random.default_rng(2)
    replicates = {name: generator.normal(0.5, 0.02, 200) for name in "abc"}
    rows = []
    for number, (name, points) in enumerate(replicates.items()):
        row = {"method": name, "images": 30, "common_images": 30, "common_rows": 30}
        rows.append({**row, "common_value": 0.5 + 0.07 * number, "common_replicates": points})
    value = Value("m", "M", better="higher")
    comparison = compare_whole_sets(pd.DataFrame(rows), value, level=level)
    reach = norm.ppf(1 - level / 2)
    place = comparison.place("b")
    deviation = replicates["b"].std(ddof=1)
    assert place.value_high == pytest.approx(0.57 + reach * deviation, rel=1e-6)
    pair = comparison.pair("a", "b")
    deviation = (replicates["a"] - replicates["b"]).std(ddof=1)
    assert pair["low"] == pytest.approx(-0.07 - reach * deviation, rel=1e-6)
    assert comparison.is_significant("a", "b") == (pair["adjusted"] < level)
    assert comparison.level == level


def test_a_stricter_level_calls_fewer_pairs_significant(values):
    table = values + np.array([0, 0.9, 1.4])
    value = Value("e", "E", better="lower")
    counts = []
    for level in (0.2, 0.01, 0.002):
        comparison = compare_methods(table, IMAGES, "abc", value, level=level)
        significant = comparison.pairs["adjusted"] < level
        counts.append(int(significant.sum()))
        losers = sum(place.place_low - 1 for place in map(comparison.place, "abc"))
        assert losers == counts[-1]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > counts[-1]


@LEVELS
def test_networks_and_mean_ranks(values, level):
    found = over_networks(values, IMAGES, "mean", level)
    usual = over_networks(values, IMAGES, "mean")
    ratio = np.ptp(found.interval_these) / np.ptp(usual.interval_these)
    assert ratio == pytest.approx(t.ppf(1 - level / 2, 39) / t.ppf(0.975, 39))
    # two methods: the studentised range over sqrt(2) is the normal quantile
    expected = norm.ppf(1 - level / 2) * (2 * 3 / (6 * 14)) ** 0.5
    assert critical_difference(2, 14, level) == pytest.approx(expected, abs=2e-3)


@LEVELS
def test_differences(level):
    differences = np.random.default_rng(3).normal(0.3, size=(40, 1))
    middle, low, high = difference_intervals(differences, IMAGES, level)[:, 0]
    _, usual_low, usual_high = difference_intervals(differences, IMAGES)[:, 0]
    assert low < middle < high
    assert (low <= usual_low) == (level <= LEVEL)
    assert (high >= usual_high) == (level <= LEVEL)
