"""Tests of pairs against scipy, one pair at a time, and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import PermutationMethod, binomtest, norm, wilcoxon

from axiom_bench.statistics.paired_tests import (
    are_equal,
    by_image,
    centre,
    detectable,
    interval,
    normal_test,
    rank_biserial,
    sign_test,
    signed_rank_test,
    signed_ranks,
    smallest_shown,
    statistics,
    wilcoxon_with_ties,
)

NAN = float("nan")


def test_many_pairs_are_tested_as_one_at_a_time() -> None:
    """With zeros, ties and missing images, of few and of many images."""
    generator = np.random.default_rng(0)
    for count in (5, 12, 30, 80):
        differences = generator.normal(0.2, 1, size=(count, 8))
        differences[:, 2:] = differences[:, 2:].round(1)
        differences[: count // 3, 4] = 0
        differences[: count // 4, 5] = NAN
        differences[:, 6] = 0
        p = signed_rank_test(differences)
        for place in range(8):
            own = differences[:, place]
            own = own[np.isfinite(own) & (own != 0)]
            assert p[place] == pytest.approx(wilcoxon(own).pvalue if len(own) else 1.0, rel=1e-12)


def test_the_sign_test_is_exact() -> None:
    ahead, behind = np.array([0, 1, 7, 3, 20]), np.array([0, 0, 1, 3, 5])
    expected = [binomtest(int(a), int(a + b)).pvalue if a + b else 1.0 for a, b in zip(ahead, behind, strict=True)]
    assert sign_test(ahead, behind).tolist() == pytest.approx(expected, rel=1e-12)


def test_the_effect_is_the_share_of_ranks() -> None:
    gain = np.array([[1.0, 0.0, -1.0], [2.0, 0.0, -2.0], [-3.0, 0.0, -3.0], [0.0, 0.0, NAN]])
    assert rank_biserial(signed_ranks(gain)).tolist() == [0.0, 0.0, -1.0]  # ranks 1 and 2 against 3
    assert rank_biserial(signed_ranks(np.array([[1.0], [-1.0], [5.0]])))[0] == pytest.approx((1.5 + 3 - 1.5) / 6)


def test_an_image_s_rows_are_averaged_and_rounding_is_equal() -> None:
    first = np.array([[4.0], [1.0], [3.0], [1.0], [NAN]])
    second = np.array([[1.0], [2.0], [1.0], [1.000001], [1.0]])
    difference = by_image(first, second, np.array([0, 0, 1, 2, 3]))
    assert difference[:3, 0].tolist() == [1.0, 2.0, 0.0]
    assert math.isnan(difference[3, 0])
    assert are_equal(np.array([1e-7, 1.0, 1.0]), np.array([5e-7, 1.00001, 1.001])).tolist() == [True, True, False]


def test_a_binary_value_has_the_sign_test_and_a_finite_interval() -> None:
    """One image of 40 differs: the t interval would be as good as a point, and the signed ranks have none."""
    differences = np.zeros((40, 1))
    differences[0] = 1
    row = {name: column[0] for name, column in statistics(differences, "higher", are_binary=True).items()}
    assert row == {"n": 40, "better": 1, "same": 39, "worse": 0, "effect": 1, "p": 1}
    low, high = interval(differences, np.arange(40), "mean", are_binary=True)[:, 0]
    assert low < 0 < centre(differences, "mean")[0] < high < 0.2


def test_fewer_rows_than_images_of_both_are_not_counted() -> None:
    row = statistics(np.array([[NAN], [NAN]]), "lower", are_binary=False)
    assert row["n"][0] == 0
    assert math.isnan(row["p"][0])


def test_what_is_shown_follows_the_formula() -> None:
    """Normal differences have the spread sqrt(pi / 3); of many images Student's quantiles are normal's."""
    differences = np.random.default_rng(1).normal(0.3, 2.0, size=(4000, 1))
    expected = (norm.ppf(1 - 0.05 / 20) + norm.ppf(0.8)) * 2 * math.sqrt(math.pi / 3) / math.sqrt(4000)
    assert detectable(differences, False, 10)[0] == pytest.approx(expected, rel=0.05)
    binary = (np.arange(4000) % 4 == 0).astype(float)[:, None]
    expected = (norm.ppf(1 - 0.05 / 20) + norm.ppf(0.8)) * math.sqrt(3 / 16) / math.sqrt(4000)
    assert detectable(binary, True, 10)[0] == pytest.approx(expected, rel=1e-3)
    assert np.isnan(detectable(np.zeros((30, 1)), False, 10)).all()
    assert np.isnan(smallest_shown(np.ones(2), 1, images=1)).all()


def test_one_image_far_off_changes_little_of_what_is_shown() -> None:
    differences = np.random.default_rng(2).normal(size=(100, 1))
    before = detectable(differences, False, 1)[0]
    differences[0] = 1e6
    assert detectable(differences, False, 1)[0] == pytest.approx(before, rel=0.1)


def test_a_normal_difference() -> None:
    p = normal_test(np.array([1.96, 0.0, 1.0]), np.array([1.0, 0.0, NAN]))
    assert p[0] == pytest.approx(0.05, abs=1e-4)
    assert p[1] == 1
    assert math.isnan(p[2])


@pytest.mark.parametrize("count", [2, 5, 9])
def test_exact_signed_ranks_with_ties_are_those_of_scipy(count: int) -> None:
    differences = np.random.default_rng(count).integers(1, 4, (5, count)) * np.random.default_rng(9).choice(
        [-1.0, 1.0], (5, count)
    )
    expected = [wilcoxon(row, method=PermutationMethod(n_resamples=np.inf)).pvalue for row in differences]
    assert wilcoxon_with_ties(differences) == pytest.approx(expected, abs=1e-12)


def test_p_of_many_images_is_scipy_s_to_the_last_bit() -> None:
    generator = np.random.default_rng(3)
    for count in (51, 400):
        differences = generator.normal(0.1, 1, size=(count, 6))
        differences[:, 3:] = differences[:, 3:].round(1)  # ties and zeros
        expected = [wilcoxon(column[column != 0]).pvalue for column in differences.T]
        assert signed_rank_test(differences).tolist() == expected


def test_ranks_and_ties_by_hand() -> None:
    ranks = signed_ranks(np.array([[2.0], [-2.0], [2.0], [-5.0], [0.0], [NAN]]))
    assert (ranks.counts[0], ranks.positive[0], ranks.negative[0]) == (4, 2 + 2, 2 + 4)
    assert ranks.ties[0] == 3**3 - 3
