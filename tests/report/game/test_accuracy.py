"""The score in closed form: Wilson's interval, clusters, pairs, and the answers that are needed."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

from axiom_bench.report.game import accuracy
from axiom_bench.report.game.accuracy import cluster_covariance, independent_answers, joined, score, wilson


def table(player: object, image: object, method: object, correct: object) -> pd.DataFrame:
    return pd.DataFrame({"player": player, "image": image, "method": method, "correct": correct, "answer_index": 0})


@pytest.mark.parametrize(("correct", "n"), [(0, 10), (8, 10), (10, 10), (145, 290)])
def test_wilson_agrees_with_scipy(correct: int, n: int):
    expected = binomtest(correct, n).proportion_ci(method="wilson")
    assert wilson(correct, n) == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_wilson_known_values():
    """Newcombe, Statistics in Medicine 17, 1998, table I: 81 of 263, 15 of 148, 0 of 20."""
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)


def test_the_known_number_of_answers():
    assert independent_answers() == pytest.approx(290.4, abs=0.05)


def test_clusters_of_one_answer_are_independent_answers():
    correct = np.repeat([1, 0], [70, 30])
    covariance = cluster_covariance(table(range(100), 0, "A", correct), "player", ["A"], seed=0)
    assert covariance[0, 0] == pytest.approx(0.7 * 0.3 / 99, rel=0.1)  # Monte-Carlo error of 2,000 resamples: 3 %


def test_players_who_answer_all_alike_count_once():
    """30 players with 5 equal answers each: as much as 30 answers, so the design effect is 5."""
    correct = np.repeat(np.repeat([1, 0], [20, 10]), 5)
    result = score(table(np.repeat(np.arange(30), 5), np.arange(150), "A", correct))
    row = result.accuracies.iloc[0]
    assert row["design_effect"] == pytest.approx(5 * 30 / 29, rel=0.1)
    assert row["high"] - row["low"] > 2 * (row["wilson_high"] - row["wilson_low"])


def test_independent_answers_have_wilsons_interval():
    """100 players with an answer each, about 100 images: nothing is shared."""
    result = score(table(range(100), range(100), "A", np.repeat([1, 0], [70, 30])))
    row = result.accuracies.iloc[0]
    assert row["design_effect"] == pytest.approx(1, abs=0.1)
    assert (row["low"], row["high"]) == pytest.approx((row["wilson_low"], row["wilson_high"]), abs=0.01)


def test_a_difference_within_players_is_paired():
    """Each player answers once under each method: the variance is that of the mean of the players' differences."""
    generator = np.random.default_rng(0)
    first = generator.integers(0, 2, 200)
    second = np.where(generator.random(200) < 0.8, first, 1 - first)
    rows = table(np.tile(np.arange(200), 2), 0, np.repeat(["A", "B"], 200), np.concatenate([first, second]))
    result = score(rows)
    pair = result.pairs.iloc[0]
    sign = 1 if pair["method"] == "A" else -1
    assert pair["difference"] == pytest.approx(sign * (first - second).mean())
    error = (first - second).std(ddof=1) / math.sqrt(200)
    assert (pair["high"] - pair["low"]) / 2 == pytest.approx(1.97 * error, rel=0.06)


def test_the_two_ways_are_joined():
    assert joined(1.0, 3.0, 2.0) == 4.0
    assert joined(2.0, 2.5, 1.0) == 2.5  # the sum is smaller by chance
    assert joined(1.0, float("nan"), 2.0) == 2.0
    assert joined(1.0, float("nan"), float("nan")) == 1.0


def test_one_player_is_scored_by_images():
    result = score(table(0, range(40), np.tile(["A", "B"], 20), np.tile([1, 1, 0, 1], 10)))
    assert np.isfinite(result.pairs[["low", "high", "p"]].to_numpy()).all()


def test_a_method_that_is_always_right_has_an_interval():
    method = np.tile(["A", "B"], 100)
    correct = (np.random.default_rng(0).random(200) < 0.6) | (method == "A")
    rows = table(np.repeat(np.arange(20), 10), np.tile(np.arange(10), 20), method, correct.astype(int))
    best = score(rows).accuracies.iloc[0]
    assert best["accuracy"] == 1
    assert 0.8 < best["low"] <= best["wilson_low"] < best["high"] == 1


def test_cant_tell_is_counted_and_not_right():
    rows = table(range(4), range(4), "A", [1, 0, 0, 1]).assign(answer_index=[7, -1, 9, 7])
    assert score(rows).accuracies[["cant_tell", "accuracy"]].iloc[0].tolist() == [1, 0.5]


def test_holm_is_over_all_pairs():
    generator = np.random.default_rng(0)
    methods = np.tile(["A", "B", "C"], 100)
    correct = generator.random(300) < np.tile([0.9, 0.5, 0.5], 100)
    pairs = score(table(np.repeat(np.arange(30), 10), np.tile(np.arange(10), 30), methods, correct.astype(int))).pairs
    assert len(pairs) == 3
    assert pairs["adjusted"].min() == pytest.approx(3 * pairs["p"].min())


def test_more_answers_are_needed_where_answers_depend_on_each_other():
    player = np.repeat(np.arange(20), 10)
    method = np.where(player % 2 == 0, "A", "B")  # each player sees one method only
    correct = np.repeat(np.random.default_rng(0).integers(0, 2, 20), 10)
    result = score(table(player, np.arange(200), method, correct))
    assert result.design_effect == pytest.approx(10, rel=0.15)
    assert result.needed == math.ceil(independent_answers() * result.design_effect)
    assert result.least <= 100
    assert accuracy.RESAMPLES >= 1000
