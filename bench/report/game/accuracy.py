"""How often people name what a method shows: accuracies, comparisons, and how many answers are still needed.

Answers of one player, and answers about one image, aren't independent. The variance of every number is therefore that
of two bootstraps, one that draws players and one that draws images, joined as in Cameron, Gelbach and Miller 2011:
V = V_players + V_images - V_answers, and at least the larger of the two, since the sum can be too small by chance.
The same resamples serve all methods, so that the covariances of two methods' accuracies are known.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from axiom_bench.report.game.answers import CANT_TELL
from axiom_bench.statistics.holm import holm

RESAMPLES = 2000
LEVEL = 0.95
POWER, LOW, HIGH = 0.8, 0.7, 0.8  # what "answers still needed" is about: 80 % power for 0.70 against 0.80
ACCURACY_COLUMNS = (
    "method", "n", "correct", "cant_tell", "accuracy", "wilson_low", "wilson_high", "low", "high", "design_effect",
)  # fmt: skip
PAIR_COLUMNS = ("method", "other", "difference", "low", "high", "p", "adjusted")

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Score:
    """accuracies: ACCURACY_COLUMNS, wilson_*: as if the answers were independent, low and high: with players and images
    as clusters. pairs: PAIR_COLUMNS, difference = accuracy of method - other. design_effect: of a difference, over all
    pairs. needed: answers of each method for 80 % power, of which `least` are there."""

    accuracies: pd.DataFrame
    pairs: pd.DataFrame
    design_effect: float
    needed: int
    least: int


def score(table: pd.DataFrame, seed: int = 0) -> Score:
    """The score of answers with the columns player, image, method, correct and answer_index. seed: of the resamples."""
    methods = sorted(table["method"].unique())
    accuracies = (
        table.assign(cant_tell=table["answer_index"] == CANT_TELL)
        .groupby("method")
        .agg(n=("correct", "size"), correct=("correct", "sum"), cant_tell=("cant_tell", "sum"))
        .loc[methods]
        .reset_index()
    )
    accuracies["accuracy"] = accuracies["correct"] / accuracies["n"]
    spread = Spread.of(table, methods, accuracies["accuracy"].to_numpy(), accuracies["n"].to_numpy(), seed)
    accuracies = _with_intervals(accuracies, spread).sort_values("accuracy", ascending=False, kind="stable")
    pairs, effect = _pairs(accuracies, spread)
    needed = math.ceil(independent_answers() * max(1.0, np.nan_to_num(effect, nan=1.0)))
    return Score(accuracies.reset_index(drop=True), pairs, effect, needed, int(accuracies["n"].min()))


@dataclass(frozen=True)
class Spread:
    """Covariances of the methods' accuracies, each (M, M): if answers were independent, with players as clusters, and
    with images as clusters. degrees: of freedom, the smaller number of clusters - 1."""

    of_answers: Matrix
    by_player: Matrix
    by_image: Matrix
    degrees: int

    @staticmethod
    def of(table: pd.DataFrame, methods: Sequence[str], accuracy: Matrix, n: Matrix, seed: int) -> Spread:
        by_player, by_image = (cluster_covariance(table, name, methods, seed) for name in ("player", "image"))
        degrees = degrees_of_freedom(table["player"].nunique(), table["image"].nunique())
        return Spread(np.diag(accuracy * (1 - accuracy) / n), by_player, by_image, degrees)

    def variances(self, weights: Matrix) -> tuple[float, float]:
        """(the variance of the weighted sum of the accuracies, what it would be for independent answers)."""
        parts = (self.of_answers, self.by_player, self.by_image)
        independent, *clustered = (float(weights @ part @ weights) for part in parts)
        return joined(independent, *clustered), independent


def degrees_of_freedom(players: int, images: int) -> int:
    """Of Student's t: the smaller number of clusters - 1; a single cluster tells nothing, so the other decides."""
    return min([count for count in (players, images) if count > 1], default=2) - 1


def reach(degrees: int) -> float:
    """So many standard errors on either side of a number are its interval."""
    from scipy.stats import t  # here, because it takes half a second to import

    return float(t.ppf((1 + LEVEL) / 2, degrees))


def wilson(correct: float, n: float, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's score interval of a share, Journal of the American Statistical Association 22, 1927. n may be an
    effective number of answers, not whole."""
    share, square = correct / n, z * z / n
    middle = (share + square / 2) / (1 + square)
    half = z * math.sqrt(share * (1 - share) / n + square / (4 * n)) / (1 + square)
    return max(0.0, middle - half), min(1.0, middle + half)


def independent_answers(low: float = LOW, high: float = HIGH, power: float = POWER) -> float:
    """How many independent answers of each of two methods show such a difference: (z_0.975 + z_power)^2 (the two
    variances) / difference^2."""
    from scipy.stats import norm  # here, because it takes half a second to import

    z = norm.ppf((1 + LEVEL) / 2) + norm.ppf(power)
    return float(z**2 * (low * (1 - low) + high * (1 - high)) / (high - low) ** 2)


def cluster_covariance(table: pd.DataFrame, cluster: str, methods: Sequence[str], seed: int) -> Matrix:
    """(M, M): covariances of the methods' accuracies when whole clusters are drawn with replacement.

    NaN for fewer than two clusters. The factor G / (G - 1) makes it unbiased for G clusters.
    """
    codes, names = pd.factorize(table[cluster])
    groups = len(names)
    if groups < 2:
        return np.full((len(methods), len(methods)), np.nan)
    place = pd.Categorical(table["method"], categories=list(methods)).codes
    n, correct = np.zeros((groups, len(methods))), np.zeros((groups, len(methods)))
    np.add.at(n, (codes, place), 1)
    np.add.at(correct, (codes, place), table["correct"].to_numpy(float))
    draws = np.random.default_rng(seed).multinomial(groups, np.full(groups, 1 / groups), RESAMPLES)
    totals = draws @ n
    complete = (totals > 0).all(1)  # a resample may have no answer of a method
    return np.atleast_2d(np.cov((draws @ correct)[complete] / totals[complete], rowvar=False)) * groups / (groups - 1)


def joined(of_answers: float, by_player: float, by_image: float) -> float:
    """The variance with players and images as clusters; where one of them is unknown, by the other."""
    known = [value for value in (by_player, by_image) if math.isfinite(value)]
    both = [by_player + by_image - of_answers] if len(known) == 2 else []
    return max([*known, *both], default=of_answers)


def _with_intervals(accuracies: pd.DataFrame, spread: Spread) -> pd.DataFrame:
    """The table in ACCURACY_COLUMNS. The interval with clusters is Wilson's for n / design effect answers; a method
    that is always or never right has the design effect of all methods together. It is 1 at least."""
    both = np.array([spread.variances(row) for row in np.eye(len(accuracies))])
    clustered, independent = np.maximum(both[:, 0], both[:, 1]), both[:, 1]
    pooled = clustered.sum() / independent.sum() if independent.sum() > 0 else 1.0
    effect = np.divide(clustered, independent, out=np.full(len(both), pooled), where=independent > 0)
    counts = list(zip(accuracies["correct"], accuracies["n"], effect, strict=True))
    alone = [wilson(correct, n) for correct, n, _ in counts]
    wide = [wilson(correct / factor, n / factor, reach(spread.degrees)) for correct, n, factor in counts]
    ends = np.column_stack([alone, wide])
    names = ["wilson_low", "wilson_high", "low", "high"]
    table = accuracies.assign(**dict(zip(names, ends.T, strict=True)), design_effect=effect)
    return table[list(ACCURACY_COLUMNS)]


def _pairs(accuracies: pd.DataFrame, spread: Spread) -> tuple[pd.DataFrame, float]:
    """(PAIR_COLUMNS of all pairs, the design effect of a difference over all of them).

    accuracies: the best first, with the index that the covariances have.
    """
    from scipy.stats import t  # here, because it takes half a second to import

    pairs = list(combinations(accuracies.index, 2))
    identity = np.eye(len(accuracies))
    both = np.array([spread.variances(identity[a] - identity[b]) for a, b in pairs]).reshape(-1, 2)
    difference = np.array([accuracies["accuracy"][a] - accuracies["accuracy"][b] for a, b in pairs])
    error = np.sqrt(both[:, 0])
    with np.errstate(divide="ignore", invalid="ignore"):  # without any spread, p is unknown
        p = np.where(error > 0, 2 * t.sf(np.abs(difference) / error, spread.degrees), np.nan)
    table = pd.DataFrame(
        {
            "method": [accuracies["method"][a] for a, _ in pairs],
            "other": [accuracies["method"][b] for _, b in pairs],
            "difference": difference,
            "low": difference - reach(spread.degrees) * error,
            "high": difference + reach(spread.degrees) * error,
            "p": p,
            "adjusted": holm(p),
        }
    )
    total = both[:, 1].sum()
    return table, float(both[:, 0].sum() / total) if total > 0 else math.nan
