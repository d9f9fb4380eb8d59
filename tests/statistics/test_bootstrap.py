"""Intervals by hand, against every resample that there is, and their independence of order and scale."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy.stats import binom, t

from axiom_bench.statistics import bootstrap
from axiom_bench.statistics.bootstrap import FEWEST_IMAGES, mean_intervals, median_intervals, units

NAN = float("nan")


def column(*values: float) -> np.ndarray:
    return np.array(values, dtype=float)[:, None]


def test_a_mean_reaches_at_least_as_far_as_student_and_at_most_twice() -> None:
    generator = np.random.default_rng(0)
    for values in (generator.normal(size=(40, 5)), generator.lognormal(0, 2, size=(40, 5))):
        low, high = mean_intervals(values, np.arange(40))
        reach = t.ppf(0.975, 39) * values.std(axis=0, ddof=1) / math.sqrt(40)
        for distance in (high - values.mean(axis=0), values.mean(axis=0) - low):
            outermost = np.maximum(values.max(axis=0) - values.mean(axis=0), values.mean(axis=0) - values.min(axis=0))
            assert (distance >= np.minimum(reach, outermost) - 1e-9).all() or (low == values.min(axis=0)).any()
            assert (distance <= 2 * reach + 1e-9).all()


def test_the_ends_stay_within_the_values() -> None:
    values = column(*[0.0] * 30, 1000.0)
    low, high = mean_intervals(values + 1e-3, np.arange(31))
    assert low[0] == 1e-3
    assert high[0] <= 1000.001


def test_wilson_s_interval_by_hand() -> None:
    """15 of 20: with Student's quantile z and 19 effective images, since the error is by the sample deviation."""
    low, high = mean_intervals(column(*[1.0] * 15, *[0.0] * 5), np.arange(20))
    z = t.ppf(0.975, 19) ** 2 / 19
    half = math.sqrt(z * (0.1875 + z / 4))
    assert low[0] == pytest.approx((0.75 + z / 2 - half) / (1 + z), rel=1e-12)
    assert high[0] == pytest.approx((0.75 + z / 2 + half) / (1 + z), rel=1e-12)


def test_all_right_is_not_certain() -> None:
    low, high = mean_intervals(column(*[1.0] * 64), np.arange(64))
    assert 0.9 < low[0] < 0.95
    assert high[0] == pytest.approx(1.0)


def test_equal_values_have_no_width() -> None:
    for intervals in (mean_intervals, median_intervals):
        assert intervals(column(*[0.1] * 12), np.arange(12))[:, 0].tolist() == pytest.approx([0.1, 0.1], rel=1e-12)


def test_a_median_s_ends_have_the_resamples_shares() -> None:
    """Of 25 images the median of a resample is at most the k-th value with a binomial probability; the resamples drawn
    come within 2 % of it."""
    values = np.arange(25.0)
    low, high = median_intervals(values[:, None], np.arange(25))[:, 0]
    exact = {k: binom.sf(12, 25, (k + 1) / 25) for k in range(25)}
    assert exact[int(low)] >= 0.025 - 0.02
    assert exact[int(low) - 1] < 0.025 + 0.02
    assert exact[int(high)] >= 0.975 - 0.02
    assert exact[int(high) - 1] < 0.975 + 0.02


def test_the_bisection_finds_what_all_medians_have(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against the medians of every resample, with objects of an image drawn together and missing values."""
    generator = np.random.default_rng(1)
    images = np.repeat(np.arange(12), generator.integers(1, 4, 12))
    values = generator.normal(size=(len(images), 3))
    values[generator.random(values.shape) < 0.1] = NAN
    draws = generator.integers(12, size=(200, 12))
    weights = np.stack([np.bincount(draw, minlength=12) for draw in draws]).astype(float)
    monkeypatch.setattr(bootstrap, "resamples", lambda count: weights)
    low, high = median_intervals(values, images)
    for place in range(3):
        lower, upper = [], []
        for weight in weights:
            drawn = np.sort(np.repeat(values[:, place], weight[images].astype(int)))
            drawn = drawn[np.isfinite(drawn)]
            lower.append(drawn[(len(drawn) - 1) // 2])
            upper.append(drawn[len(drawn) // 2])
        assert low[place] == np.sort(lower)[math.ceil(0.025 * 200) - 1]
        assert high[place] == np.sort(upper)[math.ceil(0.975 * 200) - 1]


def test_rows_of_an_image_that_are_equal_add_no_certainty() -> None:
    values, images = np.random.default_rng(2).normal(size=(30, 1)), np.arange(30)
    for intervals in (mean_intervals, median_intervals):
        once = intervals(values, images)
        twice = intervals(np.concatenate([values, values]), np.concatenate([images, images]))
        np.testing.assert_allclose(twice, once, rtol=1e-9)


def test_a_missing_value_is_as_a_missing_row() -> None:
    values, images = np.random.default_rng(3).normal(size=(30, 1)), np.arange(30)
    with_gap, without = np.where(images[:, None] == 29, NAN, values), values[:29]
    for intervals in (mean_intervals, median_intervals):
        low, high = intervals(np.concatenate([with_gap, values], axis=1), images)
        assert low[0] < np.median(without) < high[0]
        assert np.isfinite([low, high]).all()


def test_few_values_beside_many() -> None:
    """Most resamples draw no row of a column with one value."""
    many = np.random.default_rng(4).normal(size=(30, 1))
    few = np.where(np.arange(30)[:, None] == 7, many, NAN)
    both, alone = (median_intervals(columns, np.arange(30)) for columns in (np.hstack([few, many]), many))
    assert np.isnan(both[:, 0]).all()
    assert both[:, 1:].tolist() == alone.tolist()


def test_few_images_have_no_interval() -> None:
    values = np.arange(20.0)[:, None]
    for intervals in (mean_intervals, median_intervals):
        assert np.isnan(intervals(values, np.arange(20) % (FEWEST_IMAGES - 1))).all()
        assert np.isfinite(intervals(values, np.arange(20) % FEWEST_IMAGES)).all()
        assert np.isnan(intervals(np.full((20, 1), NAN), np.arange(20))).all()


def test_of_many_images_several_are_drawn_together() -> None:
    images = np.arange(5000) // 2
    drawn = units(images)
    assert len(drawn.starts) == bootstrap.MOST_UNITS
    unit = np.repeat(np.arange(len(drawn.starts)), np.diff([*drawn.starts, len(images)]))
    of_image = dict(zip(images[drawn.order], unit, strict=True))
    assert all(of_image[image] == own for image, own in zip(images[drawn.order], unit, strict=True))
    sizes = np.bincount(unit)
    assert sizes.max() - sizes.min() <= 2  # an image more or less, of two rows


def test_the_same_run_has_the_same_intervals() -> None:
    generator = np.random.default_rng(4)
    images = np.repeat(np.arange(20), generator.integers(1, 4, 20))
    values = generator.normal(size=(len(images), 2))
    order = np.argsort(images[::-1], kind="stable")  # rows of an image in another order
    for intervals in (mean_intervals, median_intervals):
        shuffled = intervals(values[::-1][order], images[::-1][order])
        np.testing.assert_allclose(shuffled, intervals(values, images), rtol=1e-9)
        np.testing.assert_allclose(3 * intervals(values, images), intervals(3 * values, images), rtol=1e-9)


def test_all_methods_have_the_same_resamples() -> None:
    values = np.random.default_rng(5).normal(size=(40, 1))
    both = mean_intervals(np.concatenate([values, values, -values], axis=1), np.arange(40))
    assert both[:, 0].tolist() == both[:, 1].tolist()
    pairs = list(itertools.combinations(range(3), 2))
    assert len(pairs) == 3
    # The bootstrap-t interval of the mirror image is the mirrored one but for the quantiles' places.
    assert both[0, 2] == pytest.approx(-both[1, 0], rel=0.02)


def slow_median_ends(values: np.ndarray, images: np.ndarray) -> np.ndarray:
    """Of one column: the median of each resample is the first value up to which at least half of its rows stand."""
    drawn = units(images)
    order = np.argsort(values, kind="stable")
    weights = bootstrap.resamples(len(drawn.starts))[:, drawn.of_rows()[order]]
    counted = 2 * np.cumsum(weights, axis=1)
    total = counted[:, -1:] / 2
    first, beyond = (counted >= total).argmax(axis=1), (counted > total).argmax(axis=1)
    low = np.sort(first)[math.ceil(bootstrap.TAIL * len(first)) - 1]
    high = np.sort(beyond)[math.ceil((1 - bootstrap.TAIL) * len(beyond)) - 1]
    return values[order][[low, high]]


def test_the_ends_of_a_median_are_found_wherever_they_are() -> None:
    """Of many rows they are looked for near the middle: where the rows of an image are alike they are far from it."""
    generator = np.random.default_rng(0)
    images = np.repeat(np.arange(25), 400)
    alike = images + generator.normal(0, 0.1, len(images))
    differing = generator.normal(size=len(images)).round(2)  # with ties
    far = median_intervals(np.stack([alike, differing], axis=1), images)
    for column_values, ends in zip((alike, differing), far.T, strict=True):
        assert ends.tolist() == slow_median_ends(column_values, images).tolist()
    place = np.searchsorted(np.sort(alike), far[:, 0])
    assert (np.abs(place - len(alike) / 2) > bootstrap.REACH * math.sqrt(len(alike))).all()
