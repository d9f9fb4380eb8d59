"""Mean ranks of methods over networks and data sets, and how far apart they must be: Friedman's and Nemenyi's tests.

After Demsar, Statistical comparisons of classifiers over multiple data sets, J. Mach. Learn. Res. 2006.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from axiom_bench.statistics.metadata import Setting, Value
from axiom_bench.statistics.numbers import number
from axiom_bench.statistics.paired_tests import LEVEL
from axiom_bench.statistics.run_folder import RunFolder

FEWEST_SETTINGS = 10  # of fewer, ranks have to differ by half of all places or more: 4.8 of 10 for eleven methods


@dataclass(frozen=True, eq=False)
class MeanRanks:
    """ranks: method -> its mean rank, 1 for the best, sorted. count: how many settings they are over. critical: the
    difference from which two differ at 5 % over all pairs (Nemenyi). p: that all methods are alike (Friedman)."""

    ranks: pd.Series
    count: int
    critical: float
    p: float

    def alike(self) -> list[tuple[int, int]]:
        """(first, last) place of the longest runs of methods, in the order of ranks, that can't be told apart."""
        values = self.ranks.to_numpy(float)
        runs: list[tuple[int, int]] = []
        for first in range(len(values)):
            last = int(np.flatnonzero(values - values[first] < self.critical).max())
            if last > first and (not runs or last > runs[-1][1]):
                runs.append((first, last))
        return runs


def mean_ranks(run: RunFolder, metric: str) -> MeanRanks | None:
    """Of the methods that have a place in all settings of trained networks; methods that coincide share theirs. None
    for fewer than two methods or settings."""
    better = run.metadata.value(metric).better
    trained = [setting for setting in run.settings if not run.metadata.has_random_weights(setting.model)]
    columns = [_values(run, setting, metric) for setting in trained]
    table = pd.DataFrame({place: values for place, values in enumerate(columns) if values is not None}).dropna()
    methods, count = table.shape
    if methods < 2 or count < 2:
        return None
    ranks = table.rank(ascending=better == "lower").mean(axis=1).sort_values(kind="stable")
    return MeanRanks(ranks, count, critical_difference(methods, count), _friedman(table))


def critical_difference(methods: int, settings: int) -> float:
    """q sqrt(k (k + 1) / (6 N)) of Nemenyi's test at 5 %, q of the studentised range over sqrt(2)."""
    from scipy.stats import studentized_range  # here, because it takes half a second to import

    quantile = float(studentized_range.ppf(1 - LEVEL, methods, np.inf)) / np.sqrt(2)
    return float(quantile * np.sqrt(methods * (methods + 1) / (6 * settings)))


def _values(run: RunFolder, setting: Setting, metric: str) -> pd.Series | None:
    """Method -> its value in one setting; methods that coincide have the same."""
    comparison = run.comparisons.of(setting, metric)
    if comparison is None:
        return None
    values = comparison.places["value"]
    return pd.Series({name: values[group[0]] for group in comparison.groups for name in group}, dtype=float)


def _friedman(table: pd.DataFrame) -> float:
    from scipy.stats import friedmanchisquare

    if len(table) < 3:  # it takes three methods
        return float("nan")
    with np.errstate(invalid="ignore", divide="ignore"):  # all alike everywhere
        return float(friedmanchisquare(*table.to_numpy()).pvalue)


def best(values: pd.Series, value: Value) -> pd.Series:
    """Which entries are best in the metric's direction, as printed: values that print the same tie. NaN is never best,
    and a metric without a direction has no best entry. For numbers without images, such as run times."""
    defined = values.dropna()
    if not value.has_direction or defined.empty:
        return pd.Series(False, index=values.index)
    printed = number(defined.min() if value.better == "lower" else defined.max())
    return values.map(lambda entry: pd.notna(entry) and number(entry) == printed).astype(bool)


def best_methods(run: RunFolder, setting: Setting, metric: str) -> frozenset[str]:
    """The methods that are bold: see `comparison.Comparison.places`. None for a model with random weights."""
    comparison = None if run.metadata.has_random_weights(setting.model) else run.comparisons.of(setting, metric)
    if comparison is None:
        return frozenset()
    return frozenset(map(str, comparison.places.index[comparison.places["is_best"].astype(bool)]))


def on_common_images(rows: pd.DataFrame) -> bool:
    """Whether the methods of one metric's summary rows have values for different images, so that those that all of them
    have decide."""
    return bool(rows["partial"].eq(True).any())
