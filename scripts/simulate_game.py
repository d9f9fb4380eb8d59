"""Checks the score of the game by simulated players of known skill: bias and coverage over many repeats.

    python scripts/simulate_game.py [--repeats 400]

A simulated answer is right with probability sigmoid(skill of the method + skill of the player + ease of the image),
where players and images are drawn anew in each repeat, and each player sees each image in the cell of the game's own
Latin square. The true accuracy of a method is the mean of that probability over all players and images.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit, logit

from axiom_bench.report.game.accuracy import Score, score
from axiom_bench.report.game.plan import latin_square, method_and_class

ACCURACIES = {"method 1": 0.8, "method 2": 0.8, "method 3": 0.7, "floor": 0.5}  # of an average player and image
EQUAL = ("method 1", "method 2")
SPREADS = ((0.0, 0.0), (0.6, 0.8))  # standard deviations of the players' skill and of the images' ease, in logits
SIZES = ((8, 20), (16, 20), (40, 40))  # players, images


@dataclass(frozen=True)
class Game:
    players: int
    images: int
    player_spread: float
    image_spread: float

    def answers(self, generator: np.random.Generator) -> pd.DataFrame:
        """One game's answers, in the columns that `accuracy.score` reads."""
        methods = len(ACCURACIES)
        square = latin_square(self.images, 2 * methods, int(generator.integers(2**31)))
        player, image = np.divmod(np.arange(self.players * self.images), self.images)
        method = np.array([method_and_class(cell, methods)[0] for cell in square[player % (2 * methods), image]])
        skill = logit(np.array(list(ACCURACIES.values())))[method]
        skill += generator.normal(0, self.player_spread, self.players)[player]
        skill += generator.normal(0, self.image_spread, self.images)[image]
        correct = (generator.random(len(method)) < expit(skill)).astype(int)
        names = np.array(list(ACCURACIES))[method]
        return pd.DataFrame({"player": player, "image": image, "method": names, "correct": correct, "answer_index": 0})

    def true_accuracies(self) -> dict[str, float]:
        """The mean over players and images, whose spreads add up to one normal distribution (Gauss-Hermite)."""
        nodes, weights = np.polynomial.hermite_e.hermegauss(64)
        spread = np.hypot(self.player_spread, self.image_spread)
        return {
            name: float(expit(logit(accuracy) + spread * nodes) @ weights / weights.sum())
            for name, accuracy in ACCURACIES.items()
        }


def measure(game: Game, repeats: int, seed: int) -> list[float]:
    """Of so many repeats: bias, coverage of both intervals, coverage of a difference, how often two equal methods are
    told apart, the design effect of an accuracy and of a difference."""
    true = game.true_accuracies()
    rows = [_one(score(game.answers(np.random.default_rng([seed, repeat])), repeat), true) for repeat in range(repeats)]
    means: NDArray[np.float64] = np.nanmean(rows, axis=0)
    return means.tolist()


def _one(result: Score, true: dict[str, float]) -> list[float]:
    table, pairs = result.accuracies, result.pairs
    expected = table["method"].map(true)
    differences = pairs["method"].map(true) - pairs["other"].map(true)
    equal = pairs[pairs["method"].isin(EQUAL) & pairs["other"].isin(EQUAL)]
    return [
        float((table["accuracy"] - expected).mean()),
        float(expected.between(table["wilson_low"], table["wilson_high"]).mean()),
        float(expected.between(table["low"], table["high"]).mean()),
        float(differences.between(pairs["low"], pairs["high"]).mean()),
        float((equal["p"] < 0.05).mean()),
        float(table["design_effect"].mean()),
        result.design_effect,
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(f"{options.repeats} repeats, seed {options.seed}\n")
    print("| Players | Images | Spread of players, images | Bias | Wilson | Interval | Difference | Equal told apart "
          "| Design effect: accuracy | difference |")  # fmt: skip
    print("|---:|---:|---|---:|---:|---:|---:|---:|---:|---:|")
    for player_spread, image_spread in SPREADS:
        for players, images in SIZES:
            bias, *shares, of_accuracy, of_difference = measure(
                Game(players, images, player_spread, image_spread), options.repeats, options.seed
            )
            texts = " | ".join(f"{100 * value:.1f} %" for value in shares)
            print(f"| {players} | {images} | {player_spread}, {image_spread} | {bias:+.3f} | {texts} "
                  f"| {of_accuracy:.2f} | {of_difference:.2f} |")  # fmt: skip


if __name__ == "__main__":
    main()
