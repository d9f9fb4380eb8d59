"""Values per image, samples of images, and the agreement of halves on the order of methods."""

import math

import numpy as np
import pytest
from scipy.stats import kendalltau

from axiom_bench.judging.agreement import (
    ImageValues,
    bootstrap_counts,
    centres,
    signs,
    split_half_agreement,
    split_halves,
    subsets,
    tau_b,
)
from axiom_bench.statistics.paired_tests import means_by_image

NAN = float("nan")


def image_values(values, lead="mean"):
    """Return the values of a metric with one column for each method."""
    methods = tuple(map(str, range(values.shape[1])))
    return ImageValues("metric", methods, values, lead, "higher")


def test_tau_b_is_scipys():
    generator = np.random.default_rng(0)
    first, second = generator.integers(0, 5, (2, 20, 8)).astype(float)
    expected = [kendalltau(a, b).statistic for a, b in zip(first, second, strict=True)]
    # Signs are float32, and their sums are exact.
    assert tau_b(signs(first), signs(second)) == pytest.approx(expected, abs=1e-6)
    # Values that differ only by rounding are a tie, and so are missing ones.
    assert signs(np.array([1.0, 1 + 1e-8, 0.5, NAN])).tolist() == [0, 1, 0, 1, 0, 0]
    assert signs(np.array([1.0, 2.0]), ([1], [0])).tolist() == [1]


def test_methods_that_differ_on_every_image_are_in_one_order():
    values = np.arange(4.0) + np.random.default_rng(0).uniform(-0.4, 0.4, (30, 4))
    agreement = split_half_agreement(image_values(values))
    assert (agreement.tau, agreement.half) == (1, 15)


def test_of_noise_tau_is_about_0():
    """Check that two halves of noise agree no more than independent sets.

    The mean tau of 30 trials with 12 methods has an error of about 0.03.
    """
    generator = np.random.default_rng(0)
    taus = []
    for _ in range(30):
        noise = generator.normal(size=(40, 12))
        taus.append(split_half_agreement(image_values(noise)).tau)
    assert abs(np.mean(taus)) < 0.1


def test_the_leading_statistic_orders_the_methods():
    """Check values of which one in ten ruins the mean of the best method, but no median."""
    noise = np.random.default_rng(0).uniform(0, 0.5, (60, 3))
    values = np.array([1.0, 2.0, 3.0]) + noise
    values[::10, 2] = -1000 * np.arange(1, 7)
    assert split_half_agreement(image_values(values, "median")).tau == 1
    assert split_half_agreement(image_values(values)).tau < 1


def test_images_without_all_values_order_nothing():
    values = np.arange(3.0) + np.random.default_rng(0).uniform(0, 0.5, (20, 3))
    values[:4, 1] = NAN
    assert split_half_agreement(image_values(values)).half == 8
    assert math.isnan(split_half_agreement(image_values(values[:5])).tau)


def test_rows_of_an_image_are_averaged():
    values = np.array([[1.0, NAN], [3.0, NAN], [5.0, 6.0], [NAN, 8.0]])
    means = means_by_image(values, np.array([0, 0, 1, 1]))
    expected = np.array([[2, NAN], [5, 7]])
    assert means == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize("lead", ["mean", "median"])
def test_centres_of_samples_are_those_of_a_loop(lead):
    generator = np.random.default_rng(0)
    values = generator.integers(0, 9, (11, 3)).astype(float)
    weights = generator.integers(0, 4, (50, 11))
    values[generator.random(values.shape) < 0.2] = NAN
    weights[0] = 0
    centre = np.nanmean if lead == "mean" else np.nanmedian
    expected = [centre(np.repeat(values, counts, axis=0), axis=0) for counts in weights[1:]]
    found = centres(values, weights.astype(np.uint8), lead)
    assert found[1:] == pytest.approx(np.array(expected))
    assert np.isnan(found[0]).all()


def test_samples_of_images():
    first, second = split_halves(7, 20)
    assert (first.sum(axis=1) == 3).all()
    assert (second.sum(axis=1) == 3).all()
    assert not (first & second).any()
    assert (subsets(30, 10, 50).sum(axis=1) == 10).all()
    assert subsets(30, 30, 50).tolist() == [[1] * 30]
    assert (bootstrap_counts(40).sum(axis=1) == 40).all()
    assert bootstrap_counts(2500).shape == (
        1000,
        2500,
    )  # groups of two and three images are drawn together
    assert bootstrap_counts(2500).sum() == pytest.approx(2_500_000, rel=0.01)


def test_methods_that_coincide_are_one_and_one_with_gaps_is_not_compared():
    values = np.random.default_rng(0).normal(size=(20, 4))
    values[:, 2] = values[:, 0]
    values[:3, 3] = NAN
    metric = ImageValues("metric", ("a", "b", "twin", "gaps"), values, "mean", "lower")
    assert metric.compared().methods == ("a", "b", "twin")
    assert metric.compared().distinct().methods == ("a", "b")
    assert metric.sign == -1
