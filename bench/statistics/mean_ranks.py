"""The mean ranks of methods over networks and data sets, with Friedman's and Nemenyi's tests, after
Demsar, Statistical comparisons of classifiers over multiple data sets, J. Mach. Learn. Res. 2006.

The report draws them as a figure. A setting is one model, cut at one layer, on one data set.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from axiom_bench.statistics.bootstrap import LEVEL
from axiom_bench.statistics.ranking import ranking_comparison
from axiom_bench.statistics.run_folder import RunFolder

# With fewer settings, ranks must differ by half of all places or more to be told apart: for eleven
# methods by 4.8 of 10.
FEWEST_SETTINGS = 10


@dataclass(frozen=True, eq=False)
class MeanRanks:
    """The mean ranks of methods by one metric."""

    ranks: pd.Series
    """{method: its mean rank, 1 for the best}, sorted."""
    count: int
    """The number of settings that the ranks are over."""
    critical: float
    """The difference from which two ranks differ significantly over all pairs (Nemenyi)."""
    p: float
    """The p value of the hypothesis that all methods are alike (Friedman)."""

    def runs_alike(self) -> list[tuple[int, int]]:
        """Return (first, last) position in `ranks` of the longest runs of methods that don't
        differ. The figure joins each of these runs by a bar.
        """
        values = self.ranks.to_numpy(float)
        runs: list[tuple[int, int]] = []
        for first in range(len(values)):
            last = int(np.flatnonzero(values - values[first] < self.critical).max())
            if last > first and (not runs or last > runs[-1][1]):
                runs.append((first, last))
        return runs


def mean_ranks(run: RunFolder, metric: str) -> MeanRanks | None:
    """Return the mean ranks of the methods that have a rank in all settings that rank methods; None
    for fewer than two methods or settings.

    Methods that coincide share their rank.
    """
    ranked_settings = {}
    for number_of_setting, setting in enumerate(run.settings):
        comparison = ranking_comparison(run, setting, metric)
        if comparison is None:
            continue
        places = comparison.places["value"]
        values: dict[str, float] = {}
        for group in comparison.groups:
            # methods that coincide differ by rounding, which must not decide their ranks
            values.update(dict.fromkeys(group, places[group[0]]))
        ranked_settings[number_of_setting] = pd.Series(values, dtype=float)
    table = pd.DataFrame(ranked_settings).dropna()
    methods, count = table.shape
    if methods < 2 or count < 2:
        return None
    is_lower = run.metadata.value(metric).better == "lower"
    ranks = table.rank(ascending=is_lower).mean(axis=1).sort_values(kind="stable")
    critical = critical_difference(methods, count, run.level)
    return MeanRanks(ranks, count, critical, _friedman(table))


def critical_difference(methods: int, settings: int, level: float = LEVEL) -> float:
    """Return q sqrt(k (k + 1) / (6 N)) of Nemenyi's test for k methods and N settings, where q is
    the studentised range over sqrt(2).
    """
    from scipy.stats import studentized_range  # here, because it takes half a second to import

    quantile = float(studentized_range.ppf(1 - level, methods, np.inf)) / np.sqrt(2)
    return float(quantile * np.sqrt(methods * (methods + 1) / (6 * settings)))


def _friedman(table: pd.DataFrame) -> float:
    """Return the p value of Friedman's test; NaN for fewer than three methods."""
    from scipy.stats import friedmanchisquare

    if len(table) < 3:
        return float("nan")
    with np.errstate(invalid="ignore", divide="ignore"):  # methods may be alike everywhere
        return float(friedmanchisquare(*table.to_numpy()).pvalue)
