"""Which methods of a metric are best: the one with the best value, and all that can't be told to be worse than it."""

from __future__ import annotations

import pandas as pd

from axiom_bench.statistics.metadata import Setting, Value
from axiom_bench.statistics.numbers import number
from axiom_bench.statistics.run_folder import RunFolder


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
