"""Agreement of halves: scipy's tau, and the extrapolation in closed form."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import kendalltau

from axiom_bench.judging.agreement import images_needed, predicted_tau, split_half_agreement, tau_b
from axiom_bench.judging.values import ImageValues, signs

NAN = float("nan")


def made(values: np.ndarray, lead: str = "mean") -> ImageValues:
    return ImageValues("metric", tuple(map(str, range(values.shape[1]))), values, lead, "higher")


def test_tau_b_is_scipys() -> None:
    generator = np.random.default_rng(0)
    first, second = generator.integers(0, 5, (2, 20, 8)).astype(float)
    expected = [kendalltau(a, b).statistic for a, b in zip(first, second, strict=True)]
    assert tau_b(signs(first), signs(second)) == pytest.approx(expected, abs=1e-6)  # signs are float32, sums exact


def test_methods_that_differ_on_every_image_are_in_one_order() -> None:
    values = np.arange(4.0) + np.random.default_rng(0).uniform(-0.4, 0.4, (30, 4))
    found = split_half_agreement(made(values))
    assert (found.tau, found.half) == (1, 15)
    assert found.needed == pytest.approx(0, abs=1e-6)
    assert not found.is_extrapolated


def test_of_noise_tau_is_about_0_and_no_number_of_images_is_enough() -> None:
    """SplitHalf of one set are as independent sets; the mean of so many methods' tau has an error of about 0.03."""
    generator = np.random.default_rng(0)
    taus = [split_half_agreement(made(generator.normal(size=(40, 12)))).tau for _ in range(30)]
    assert abs(np.mean(taus)) < 0.1
    assert images_needed(-0.01, 20) == math.inf
    assert math.isnan(images_needed(NAN, 20))


def test_of_normal_differences_the_formula_is_exact() -> None:
    """Methods' means from N(0, 1), errors of n images from N(0, s^2 / n): the orders of two sets of images have
    correlation r = 1 / (1 + s^2 / n), so tau = 2 / pi asin(r) in the mean over methods."""

    def tau(images: float) -> float:
        return 2 / math.pi * math.asin(1 / (1 + 16 / images))

    for seen in (10, 40, 300):
        assert predicted_tau(tau(seen), seen, 2 * seen) == pytest.approx(tau(2 * seen))
        needed = images_needed(tau(seen), seen)
        assert tau(needed) == pytest.approx(0.9)
    generator = np.random.default_rng(0)
    means = generator.normal(size=(400, 12))
    first, second = (means + 4 / math.sqrt(40) * generator.normal(size=means.shape) for _ in range(2))
    assert tau_b(signs(first), signs(second)).mean() == pytest.approx(tau(40), abs=0.02)  # its error is 0.008


def test_the_leading_statistic_orders_the_methods() -> None:
    """One image in ten ruins the mean of the best method, and no median."""
    values = np.tile(np.array([1.0, 2.0, 3.0]), (60, 1)) + np.random.default_rng(0).uniform(0, 0.5, (60, 3))
    values[::10, 2] = -1000 * np.arange(1, 7)
    assert split_half_agreement(made(values, "median")).tau == 1
    assert split_half_agreement(made(values)).tau < 1


def test_images_without_all_values_order_nothing() -> None:
    values = np.arange(3.0) + np.random.default_rng(0).uniform(0, 0.5, (20, 3))
    values[:4, 1] = NAN
    assert split_half_agreement(made(values)).half == 8
    assert math.isnan(split_half_agreement(made(values[:5])).tau)
