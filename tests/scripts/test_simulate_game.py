"""The simulation of the game: its truth in closed form, and that the score finds it."""

from __future__ import annotations

import numpy as np
import pytest
import simulate_game
from scipy.special import expit, logit


def test_without_spread_the_truth_is_the_skill():
    assert simulate_game.Game(8, 20, 0, 0).true_accuracies() == pytest.approx(simulate_game.ACCURACIES)


def test_the_truth_is_the_mean_over_players_and_images():
    game = simulate_game.Game(8, 20, 0.6, 0.8)
    sums = np.random.default_rng(0).normal(0, 1, 200_000)
    for name, accuracy in simulate_game.ACCURACIES.items():
        assert game.true_accuracies()[name] == pytest.approx(expit(logit(accuracy) + sums).mean(), abs=0.003)


def test_the_score_recovers_the_skill():
    bias, wilson, interval, difference, *_ = simulate_game.measure(simulate_game.Game(40, 40, 0.6, 0.8), 30, seed=1)
    assert abs(bias) < 0.03  # four standard errors of 30 repeats
    assert interval > 0.85 > wilson
    assert difference > 0.85
