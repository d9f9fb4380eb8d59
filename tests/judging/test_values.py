"""Values by image, and statistics of many samples against a loop."""

from __future__ import annotations

import numpy as np
import pytest

from axiom_bench.judging.agreement import ImageValues, centres, drawn, signs, split_halves, subsets
from axiom_bench.statistics.paired_tests import means_by_image

NAN = float("nan")


def test_rows_of_an_image_are_averaged() -> None:
    values = np.array([[1.0, NAN], [3.0, NAN], [5.0, 6.0], [NAN, 8.0]])
    assert means_by_image(values, np.array([0, 0, 1, 1])) == pytest.approx(np.array([[2, NAN], [5, 7]]), nan_ok=True)


@pytest.mark.parametrize("lead", ["mean", "median"])
def test_centres_of_samples_are_those_of_a_loop(lead: str) -> None:
    generator = np.random.default_rng(0)
    values, weights = generator.integers(0, 9, (11, 3)).astype(float), generator.integers(0, 4, (50, 11))
    values[generator.random(values.shape) < 0.2] = NAN
    weights[0] = 0
    centre = np.nanmean if lead == "mean" else np.nanmedian
    expected = [centre(np.repeat(values, counts, axis=0), axis=0) for counts in weights[1:]]
    found = centres(values, weights.astype(np.uint8), lead)
    assert found[1:] == pytest.approx(np.array(expected))
    assert np.isnan(found[0]).all()


def test_samples_of_images() -> None:
    first, second = split_halves(7, 20)
    assert (first.sum(axis=1) == 3).all()
    assert (second.sum(axis=1) == 3).all()
    assert not (first & second).any()
    assert (subsets(30, 10, 50).sum(axis=1) == 10).all()
    assert subsets(30, 30, 50).tolist() == [[1] * 30]
    assert (drawn(40).sum(axis=1) == 40).all()
    assert drawn(2500).shape == (1000, 2500)  # groups of two and three images are drawn together
    assert drawn(2500).sum() == pytest.approx(2_500_000, rel=0.01)


def test_signs_tie_what_is_rounding_and_what_is_missing() -> None:
    assert signs(np.array([1.0, 1 + 1e-8, 0.5, NAN])).tolist() == [0, 1, 0, 1, 0, 0]
    assert signs(np.array([1.0, 2.0]), ([1], [0])).tolist() == [1]


def test_methods_that_coincide_are_one_and_one_with_gaps_is_not_compared() -> None:
    values = np.random.default_rng(0).normal(size=(20, 4))
    values[:, 2] = values[:, 0]
    values[:3, 3] = NAN
    made = ImageValues("metric", ("a", "b", "twin", "gaps"), values, "mean", "lower")
    assert made.compared().methods == ("a", "b", "twin")
    assert made.compared().distinct().methods == ("a", "b")
    assert np.isnan(made.common().values[:3]).all()
    assert made.sign == -1
