"""Krippendorff's alpha: published cases, a double loop over all pairs, and its limits."""

from __future__ import annotations

from itertools import combinations, permutations

import numpy as np
import pytest
from scipy.stats import spearmanr

from axiom_bench.judging.agreement import agreement, interval_alpha, ordinal_scores, rankings
from axiom_bench.judging.values import drawn

NAN = float("nan")
# Krippendorff 2011, Computing Krippendorff's Alpha-Reliability, example D: four coders, twelve units.
CODERS = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, NAN, NAN, NAN],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NAN, 3],
        [NAN, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NAN],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NAN],
    ]
)
ONCE = np.ones((1, 4), dtype=np.uint8)


def by_definition(ratings: np.ndarray, ordinal: bool = True) -> float:
    """1 - D_o / D_e with the metric as it is published, pair by pair."""
    units = [column[np.isfinite(column)] for column in ratings.T]
    units = [unit for unit in units if len(unit) > 1]
    everything = np.concatenate(units)
    values, counts = np.unique(everything, return_counts=True)

    def squared(first: float, second: float) -> float:
        if not ordinal:
            return float((first - second) ** 2)
        low, high = sorted((first, second))
        between = counts[(values >= low) & (values <= high)].sum()
        ends = counts[values == low].sum() + counts[values == high].sum()
        return float((between - ends / 2) ** 2)

    number = len(everything)
    observed = sum(sum(squared(*pair) for pair in permutations(unit, 2)) / (len(unit) - 1) for unit in units) / number
    expected = 2 * sum(squared(*pair) for pair in combinations(everything, 2)) / (number * (number - 1))
    return 1 - observed / expected


def test_the_published_case() -> None:
    """0.815 for the ordinal metric and 0.849 for the interval metric, as published."""
    assert interval_alpha(ordinal_scores(CODERS), ONCE)[0] == pytest.approx(0.815, abs=5e-4)
    can_be_paired = np.where(np.isfinite(CODERS).sum(axis=0) > 1, CODERS, NAN)
    assert interval_alpha(can_be_paired, ONCE)[0] == pytest.approx(0.849, abs=5e-4)


@pytest.mark.parametrize("missing", [0.0, 0.3])
@pytest.mark.parametrize("levels", [3, 100])
def test_as_by_definition(missing: float, levels: int) -> None:
    """With ties and missing values; 1e-10, since the definition's sums of squares are large."""
    generator = np.random.default_rng(0)
    for _ in range(5):
        ratings = generator.integers(0, levels, (6, 5)) + np.arange(5.0)
        ratings[generator.random(ratings.shape) < missing] = NAN
        assert interval_alpha(ordinal_scores(ratings), np.ones((1, 6), dtype=np.uint8))[0] == pytest.approx(
            by_definition(ratings), abs=1e-10
        )


def test_of_rankings_without_ties_it_is_the_mean_of_spearmans() -> None:
    """alpha = r + (1 - r) / (n m) with r the mean over pairs of n images, m methods: by expanding both squares."""
    values = np.random.default_rng(1).normal(size=(5, 7)) + np.arange(7)
    mean = np.mean([spearmanr(values[i], values[j]).statistic for i, j in combinations(range(5), 2)])
    assert agreement(values).alpha == pytest.approx(mean + (1 - mean) / 35, abs=1e-12)


def test_limits() -> None:
    same = np.tile(np.array([3.0, 1.0, 2.0, 5.0]), (20, 1))
    assert agreement(same) == pytest.approx((1, 1, 1))
    assert np.isnan(agreement(np.zeros((20, 4))).alpha)  # all tie everywhere
    low, high = agreement(np.random.default_rng(0).normal(size=(200, 8)))[1:]
    assert low < 0.01 < 0.05 > high > 0
    opposite = np.array([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]])
    assert agreement(opposite).alpha == pytest.approx(-1 + 2 / 6)  # r = -1


def test_few_images_have_no_interval() -> None:
    values = np.random.default_rng(0).normal(size=(9, 4))
    assert np.isnan(agreement(values)[1:]).all()
    assert np.isfinite(agreement(values).alpha)


def test_ranks_of_ties_of_rounding_and_of_missing_values() -> None:
    ranks = rankings(np.array([[0.1, 0.1 + 1e-8, 0.3, 0.2], [5.0, NAN, 4.0, NAN], [NAN, NAN, NAN, 1.0]]))
    assert ranks[0].tolist() == [1.5, 1.5, 4, 3]
    # Of two values among four methods the ranks are in the middle of each half.
    assert ranks[1] == pytest.approx([3.5, NAN, 1.5, NAN], nan_ok=True)
    assert ranks[2] == pytest.approx([NAN, NAN, NAN, 2.5], nan_ok=True)


def test_an_image_is_never_paired_with_itself() -> None:
    """Resamples hold images twice: counted as agreement they would raise alpha by 1/n, at 12 images by 0.08."""
    scores = ordinal_scores(rankings(np.random.default_rng(3).normal(size=(12, 40))))
    alpha = interval_alpha(scores, np.ones((1, 12), dtype=np.uint8))[0]
    resampled = interval_alpha(scores, drawn(12)).mean()
    assert abs(resampled - alpha) < 0.005


def test_the_order_of_images_and_methods_decides_nothing() -> None:
    generator = np.random.default_rng(4)
    values = generator.normal(size=(30, 6)) + np.arange(6)
    values[values > 5] = NAN
    shuffled = values[generator.permutation(30)][:, generator.permutation(6)]
    assert agreement(shuffled).alpha == pytest.approx(agreement(values).alpha, abs=1e-12)
