"""Tests of bootstrap intervals.

They are compared with values by hand and with loops over all resamples, and must not depend on the
order of rows or the scale of values.
"""

import math
from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
from scipy.stats import t, ttest_1samp

from axiom_bench.statistics import bootstrap
from axiom_bench.statistics.bootstrap import (
    FEWEST_IMAGES,
    difference_intervals,
    mean_intervals,
    median_intervals,
    units,
)

NAN = float("nan")


def column(*values):
    return np.array(values, dtype=float)[:, None]


def test_a_mean_reaches_at_least_as_far_as_student_and_at_most_twice():
    generator = np.random.default_rng(0)
    for values in (generator.normal(size=(40, 5)), generator.lognormal(0, 2, size=(40, 5))):
        low, high = mean_intervals(values, np.arange(40))

        means = values.mean(axis=0)
        outermost = np.maximum(values.max(axis=0) - means, means - values.min(axis=0))
        reach = t.ppf(0.975, 39) * values.std(axis=0, ddof=1) / math.sqrt(40)
        ends_at_the_lowest_value = (low == values.min(axis=0)).any()
        for distance in (high - means, means - low):
            reaches_student = (distance >= np.minimum(reach, outermost) - 1e-9).all()
            assert reaches_student or ends_at_the_lowest_value
            assert (distance <= 2 * reach + 1e-9).all()


def test_a_skewed_mean_reaches_further_on_its_long_side_as_in_the_book():
    """Compute equation 12.5 of Efron and Tibshirani by hand from the same resamples.

    The mean less t's upper quantile times the error is the lower end, and the mean less its lower
    quantile times the error is the upper end. On the short side Student's t reaches further.
    """
    values = np.random.default_rng(1).exponential(size=40)

    def mean_and_error(rows):
        return rows.mean(), rows.std(ddof=1) / math.sqrt(len(rows))

    mean, error = mean_and_error(values)
    t_values = []
    for counts in bootstrap.resamples(40).astype(int):
        resampled_mean, resampled_error = mean_and_error(np.repeat(values, counts))
        t_values.append((resampled_mean - mean) / resampled_error)
    below, above = np.quantile(t_values, [0.025, 0.975], method="nearest")
    student = t.ppf(0.975, 39)
    assert 1.1 * student < -below < 2 * student
    assert above < student

    low, high = mean_intervals(np.stack([values, -values], axis=1), np.arange(40))

    expected = [mean - student * error, mean - below * error]
    assert [low[0], high[0]] == pytest.approx(expected, rel=1e-9)
    # The mirrored values have the mirrored interval, except that quantiles fall on other places.
    assert [low[1], high[1]] == pytest.approx([-high[0], -low[0]], rel=0.01)


def test_the_ends_stay_within_the_values():
    values = column(*[0.0] * 30, 1000.0)
    low, high = mean_intervals(values + 1e-3, np.arange(31))
    assert low[0] == 1e-3
    assert high[0] <= 1000.001


def test_wilson_s_interval_by_hand():
    """Check the intervals of 15 of 20 images and of all of 64.

    The interval uses Student's quantile z and 19 effective images, since the error comes from the
    sample deviation. Even if all of 64 images are right, the share is not certain.
    """
    low, high = mean_intervals(column(*[1.0] * 15, *[0.0] * 5), np.arange(20), is_proportion=True)

    z = t.ppf(0.975, 19) ** 2 / 19
    half = math.sqrt(z * (0.1875 + z / 4))
    expected = [(0.75 + z / 2 + side * half) / (1 + z) for side in (-1, 1)]
    assert [low[0], high[0]] == pytest.approx(expected, rel=1e-12)

    low, high = mean_intervals(column(*[1.0] * 64), np.arange(64), is_proportion=True)

    expected = [1 / (1 + t.ppf(0.975, 63) ** 2 / 64), 1.0]
    assert [low[0], high[0]] == pytest.approx(expected, rel=1e-12)


def test_the_kind_of_interval_follows_from_the_declared_kind_alone():
    """A count that is 0 or 1 on these images is no proportion. If it is 0 on all images, its
    interval has no width.
    """
    values = column(*[1.0] * 15, *[0.0] * 5)
    of_counts = mean_intervals(values, np.arange(20))
    of_proportions = mean_intervals(values, np.arange(20), is_proportion=True)
    assert not np.allclose(of_counts, of_proportions)
    assert mean_intervals(column(*[0.0] * 30), np.arange(30))[:, 0].tolist() == [0, 0]


def test_a_difference_is_that_of_two_more_images_half_of_the_furthest_away():
    """An image has the weight of its rows, and the two added images have that of a mean image."""
    differences = np.random.default_rng(0).exponential(1, 12) - 0.3

    middle, low, high = difference_intervals(differences[:, None], np.arange(12))[:, 0]

    furthest = np.abs(differences).max() / 2
    ends = ttest_1samp([*differences, furthest, -furthest], 0).confidence_interval(0.95)
    assert middle == pytest.approx(differences.sum() / 14)
    assert low <= ends.low + 1e-12
    assert high >= ends.high - 1e-12
    every_row_twice = np.repeat(differences, 2)[:, None]
    intervals = difference_intervals(every_row_twice, np.repeat(np.arange(12), 2))
    assert intervals[:, 0].tolist() == pytest.approx([middle, low, high])
    assert np.isnan(difference_intervals(differences[:9, None], np.arange(9))[1:]).all()
    assert np.isnan(difference_intervals(np.full((12, 1), NAN), np.arange(12))).all()


def test_a_difference_of_shares_has_agresti_and_min_s_middle():
    """If 7 of 40 images got better and 2 worse, the middle is (7 + 1/2 - 2 - 1/2) / 42. If none
    differs, the interval has no width.
    """
    differences = column(*[1.0] * 7, *[-1.0] * 2, *[0.0] * 31)

    middle, low, high = difference_intervals(differences, np.arange(40))[:, 0]

    deviation = np.append(differences, [0.5, -0.5]).std(ddof=1)
    half = t.ppf(0.975, 41) * deviation / math.sqrt(42)
    assert middle == pytest.approx(5 / 42)
    assert high - middle >= half - 1e-12
    assert middle - low >= half - 1e-12
    assert difference_intervals(np.zeros((40, 1)), np.arange(40))[:, 0].tolist() == [0, 0, 0]


@pytest.mark.parametrize("most_rows", [1, 5])
def test_medians_of_resamples_are_those_of_the_rows_drawn(most_rows):
    generator = np.random.default_rng(most_rows)
    images = np.repeat(np.arange(70), generator.integers(1, most_rows + 1, 70))
    values = generator.normal(size=(len(images), 3)).round(1)
    values[: len(images) // 4, 2] = NAN

    medians = bootstrap.resampled_medians(values, images)[:30]

    counts_of_images = bootstrap.resamples(70)[:30].astype(int)
    for row, counts in zip(medians, counts_of_images, strict=True):
        drawn_rows = np.repeat(values, counts[images], axis=0)
        assert row.tolist() == np.nanmedian(drawn_rows, axis=0).tolist()


def test_a_sample_without_a_row_has_no_median():
    column = np.array([[3.0], [np.nan], [7.0]])
    weights = np.array([[1.0, 0.0, 1.0], [0.0, 2.0, 0.0], [0.0, 0.0, 2.0]])
    medians = bootstrap.weighted_medians(column, np.arange(3), weights)
    assert np.array_equal(medians[:, 0], [5, np.nan, 7], equal_nan=True)


Intervals = Callable[[np.ndarray, np.ndarray], np.ndarray]
BOTH = pytest.mark.parametrize("intervals", [mean_intervals, median_intervals])


@BOTH
def test_equal_values_have_no_width_and_equal_rows_of_an_image_add_no_certainty(intervals):
    ends = intervals(column(*[0.1] * 12), np.arange(12))[:, 0].tolist()
    assert ends == pytest.approx([0.1, 0.1], rel=1e-12)

    values = np.random.default_rng(2).normal(size=(30, 1))
    images = np.arange(30)
    twice = intervals(np.concatenate([values, values]), np.concatenate([images, images]))
    np.testing.assert_allclose(twice, intervals(values, images), rtol=1e-9)


@BOTH
def test_missing_values_and_few_images(intervals):
    values = np.random.default_rng(3).normal(size=(30, 1))
    images = np.arange(30)
    with_gap = np.where(images[:, None] == 29, NAN, values)

    low, high = intervals(np.concatenate([with_gap, values], axis=1), images)

    assert low[0] < np.median(values[:29]) < high[0]
    assert np.isfinite([low, high]).all()
    assert np.isnan(intervals(values, images % (FEWEST_IMAGES - 1))).all()
    for first in (0, 1):  # an image's number doesn't matter
        assert np.isfinite(intervals(values, images % FEWEST_IMAGES + first)).all()
    assert np.isnan(intervals(np.full((30, 1), NAN), images)).all()


@BOTH
def test_the_order_of_an_image_s_rows_and_the_scale_change_nothing(intervals):
    generator = np.random.default_rng(4)
    images = np.repeat(np.arange(20), generator.integers(1, 4, 20))
    values = generator.normal(size=(len(images), 2))
    order = np.argsort(images[::-1], kind="stable")
    expected = intervals(values, images)
    reordered = intervals(values[::-1][order], images[::-1][order])
    np.testing.assert_allclose(reordered, expected, rtol=1e-9)
    np.testing.assert_allclose(intervals(3 * values, images), 3 * expected, rtol=1e-9)


def test_few_values_next_to_many():
    """Most resamples draw no row of a column with one value."""
    many = np.random.default_rng(4).normal(size=(30, 1))
    few = np.where(np.arange(30)[:, None] == 7, many, NAN)
    of_both = median_intervals(np.hstack([few, many]), np.arange(30))
    of_many = median_intervals(many, np.arange(30))
    assert np.isnan(of_both[:, 0]).all()
    assert of_both[:, 1:].tolist() == of_many.tolist()


def test_of_many_images_several_are_drawn_together():
    images = np.arange(5000) // 2
    drawn = units(images)
    assert len(drawn.starts) == bootstrap.MOST_UNITS
    unit_sizes = np.diff([*drawn.starts, len(images)])
    units_of_rows = np.repeat(np.arange(len(drawn.starts)), unit_sizes)
    images_of_rows = images[drawn.order]
    unit_by_image = dict(zip(images_of_rows, units_of_rows, strict=True))
    for image, unit in zip(images_of_rows, units_of_rows, strict=True):
        assert unit_by_image[image] == unit
    sizes = np.bincount(units_of_rows)
    assert sizes.max() - sizes.min() <= 2  # an image has two rows: units differ by one image


def test_all_methods_have_the_same_resamples():
    values = np.random.default_rng(5).normal(size=(40, 1))
    both = mean_intervals(np.concatenate([values, values, -values], axis=1), np.arange(40))
    assert both[:, 0].tolist() == both[:, 1].tolist()
    # The mirrored values have the mirrored bootstrap-t interval, except that quantiles fall on
    # other places.
    assert both[0, 2] == pytest.approx(-both[1, 0], rel=0.02)


def slow_median_ends(values, images):
    """Return the ends of one column's interval from all its rows.

    The median of a resample is the first value that at least half of its rows don't exceed.
    """
    drawn = units(images)
    order = np.argsort(values, kind="stable")[: np.isfinite(values).sum()]  # NaN comes last
    counts_of_rows = bootstrap.resamples(len(drawn.starts))[:, drawn.unit_of_row()[order]]
    counted = 2 * np.cumsum(counts_of_rows, axis=1)
    total = counted[:, -1:] / 2
    first = (counted >= total).argmax(axis=1)
    beyond = (counted > total).argmax(axis=1)
    low = np.sort(first)[math.ceil(bootstrap.TAIL * len(first)) - 1]
    high = np.sort(beyond)[math.ceil((1 - bootstrap.TAIL) * len(beyond)) - 1]
    return values[order][[low, high]]


def test_the_ends_of_a_median_are_found_wherever_they_are():
    """Compare the ends with those from all rows.

    Among many rows, the ends are searched near the middle. If the rows of an image are similar,
    the ends are far from the middle. Among few rows, here with missing values, all rows are
    searched.
    """
    generator = np.random.default_rng(0)
    images = np.repeat(np.arange(25), 400)
    alike = images + generator.normal(0, 0.1, len(images))
    many = np.stack([alike, generator.normal(size=len(images)).round(2)], axis=1)  # with ties
    few_images = np.repeat(np.arange(12), generator.integers(1, 4, 12))
    few = generator.normal(size=(len(few_images), 3))
    few[generator.random(few.shape) < 0.1] = NAN

    for values, images_of_rows in ((many, images), (few, few_images)):
        expected = [slow_median_ends(column, images_of_rows) for column in values.T]
        assert median_intervals(values, images_of_rows).T.tolist() == np.array(expected).tolist()
    place = np.searchsorted(np.sort(alike), median_intervals(many, images)[:, 0])
    assert (np.abs(place - len(alike) / 2) > bootstrap.REACH * math.sqrt(len(alike))).all()


@pytest.mark.parametrize("lead", ["mean", "median"])
def test_over_networks_the_variances_of_images_and_networks_add_up(lead):
    """Check the sum of the two variances for networks that differ by a constant.

    Every resample of images moves all these networks alike. The variance over all resamples of
    networks and images is then known: the images' variance plus (k - 1) / k of the networks'.
    """
    generator = np.random.default_rng(0)
    shift = np.array([0.0, 1.0, 2.0, 5.0])
    images = np.arange(40)
    values = generator.normal(size=(40, 1)) + shift
    statistic = getattr(np, lead)
    of_first_network = statistic(values[:, 0])

    found = bootstrap.over_networks(values, images, lead)

    assert found.by_network == pytest.approx(statistic(values, axis=0))
    assert found.mean == pytest.approx(of_first_network + 2)
    assert found.range_without_one == pytest.approx(
        [of_first_network + 1, of_first_network + 8 / 3]
    )

    counts_of_images = bootstrap.resamples(40).astype(int)
    of_images = np.array(
        [statistic(np.repeat(values[:, 0], counts)) for counts in counts_of_images]
    )
    drawn_networks = product(range(4), repeat=4)
    mean_shifts = [shift[list(networks)].mean() for networks in drawn_networks]
    by_hand = np.array([of_images + mean_shift for mean_shift in mean_shifts])
    by_images = np.var(of_images) * 40 / 39
    by_networks = shift.var(ddof=1) / 4
    assert by_hand.var() == pytest.approx(by_images * 39 / 40 + by_networks * 3 / 4)

    freedom = (by_images + by_networks) ** 2 / (by_images**2 / 39 + by_networks**2 / 3)
    reach = t.ppf(0.975, freedom) * math.sqrt(by_images + by_networks)
    ends = np.clip(found.mean + np.array([-reach, reach]), values.min(), values.max())
    assert found.interval_all == pytest.approx(ends)
    reach = t.ppf(0.975, 39) * math.sqrt(by_images)
    assert found.interval_these == pytest.approx(found.mean + np.array([-reach, reach]))


@pytest.mark.parametrize("lead", ["mean", "median"])
def test_over_networks_equal_values_have_no_width(lead):
    """Both variances are 0, so the degrees of freedom are undefined."""
    found = bootstrap.over_networks(np.full((12, 3), 0.25), np.arange(12), lead)
    assert found.interval_all.tolist() == [0.25, 0.25]
    assert found.interval_these.tolist() == [0.25, 0.25]


def test_over_networks_there_is_no_interval_of_two_networks_or_few_images():
    values = np.random.default_rng(0).normal(size=(30, 3))
    for few in (values[:, :2], values[:9]):
        found = bootstrap.over_networks(few, np.arange(len(few)), "mean")
        assert found.mean == pytest.approx(few.mean())
        assert np.isnan([found.interval_all, found.interval_these]).all()


def test_over_networks_rows_without_a_value_count_for_none():
    """Each network's statistic is over its own rows; an image with two rows is drawn with both."""
    generator = np.random.default_rng(0)
    values = generator.normal(size=(40, 3))
    images = np.repeat(np.arange(20), 2)
    values[:3, 1] = NAN
    order = generator.permutation(40)

    found = bootstrap.over_networks(values, images, "mean")
    shuffled = bootstrap.over_networks(values[order], images[order], "mean")
    doubled = bootstrap.over_networks(np.repeat(values, 2, axis=0), np.repeat(images, 2), "mean")

    assert found.by_network == pytest.approx(np.nanmean(values, axis=0))
    assert shuffled.interval_all == pytest.approx(found.interval_all)
    assert doubled.interval_all == pytest.approx(found.interval_all)  # repeated rows add no images


@pytest.mark.parametrize("offset", [1e3, 1e8])
def test_the_interval_of_a_mean_far_from_0_keeps_its_width(offset):
    """The width was once 0 from 1e6 standard deviations on.

    The tolerance is 1e-6 because values this far from 0 are rounded to 1e-8 of their spread.
    """
    images = np.repeat(np.arange(30), [1, 2] * 15)
    values = np.random.default_rng(0).exponential(1, (len(images), 1))
    assert mean_intervals(values + offset, images) - offset == pytest.approx(
        mean_intervals(values, images), rel=1e-6
    )
