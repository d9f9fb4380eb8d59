"""Which method of a metric is best, and whether that can be told at all."""

from __future__ import annotations

import pandas as pd

from axiom_bench.report.numbers import number
from axiom_bench.report.run_folder import RunFolder, Setting, Value


def best(values: pd.Series, value: Value) -> pd.Series:
    """Which entries are best in the metric's direction, as printed: values that print the same tie. NaN is never best,
    and a metric without a direction has no best entry."""
    defined = values.dropna()
    if not value.has_direction or defined.empty:
        return pd.Series(False, index=values.index)
    printed = number(defined.min() if value.better == "lower" else defined.max())
    return values.map(lambda entry: pd.notna(entry) and number(entry) == printed).astype(bool)


def winners(run: RunFolder, setting: Setting, rows: pd.DataFrame, value: Value) -> pd.Series:
    """Which of one metric's summary rows are best, on the images that all compared methods have.

    None for a model with random weights, and none of the methods that aren't compared: see `common.with_common_values`.
    """
    if run.has_random_weights(setting.model):
        return pd.Series(False, index=rows.index)
    return best(rows[f"common_{value.lead}"].where(rows["compared"].eq(True)), value)


def on_common_images(rows: pd.DataFrame) -> bool:
    """Whether the methods of one metric's summary rows have values for different images, so that those that all of them
    have decide."""
    return bool(rows["partial"].eq(True).any())
