"""Every metric of a setting: its methods' counts, median, mean, standard error and the statuses that aren't ok."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from axiom_bench.report.numbers import number
from axiom_bench.report.run_folder import RunFolder, Setting, Value, rows_at
from axiom_bench.report.statistics.whole_set import common_values
from axiom_bench.report.tables.table import Cell, Group, Table, row
from axiom_bench.report.tables.text import (
    by_metric,
    error_notes,
    group_title,
    metric_notes,
    name_of,
    other_statuses,
    winners,
)

HEADER = ("Method", "Images", "Rows", "Median", "Mean", "Standard error", "Other statuses")
NOTE = (
    "Images, rows: those with status ok, which the statistics are over. Bold: best in the metric's direction, by the "
    "median for ratios, whose tails are heavy where the score is near 0, and else by the mean."
)


def metric_tables(run: RunFolder, summary: pd.DataFrame) -> Iterator[Table]:
    """One table for each setting, one group of rows for each metric."""
    for i, setting in enumerate(run.settings, start=1):
        metrics = list(by_metric(run, rows_at(summary, setting)))
        groups = tuple(
            Group(group_title(value, whole_set), tuple(_rows(run, setting, rows, value)))
            for value, whole_set, rows in metrics
        )
        whole_set_values = [value for value, whole_set, _ in metrics if whole_set]
        notes = (
            NOTE,
            *error_notes(run, bool(whole_set_values)),
            *_common_notes(run, setting, whole_set_values),
            *metric_notes(value for value, _, _ in metrics),
        )
        yield Table(f"metrics_{i}", f"All metrics, {run.label(setting)}", HEADER, groups, notes, text_last=True)


def _rows(run: RunFolder, setting: Setting, rows: pd.DataFrame, value: Value) -> Iterator[tuple[Cell, ...]]:
    lead = 3 if value.lead == "median" else 4
    for (_, entry), is_best in zip(rows.iterrows(), winners(run, setting, rows[value.lead], value), strict=True):
        numbers = (number(entry[name]) for name in ("median", "mean", "standard_error"))
        counts = (f"{entry['images']:,}", f"{entry['n']:,}")
        texts = (name_of(entry["method"]), *counts, *numbers, other_statuses(entry["statuses"]))
        yield row(*texts, bold=[lead] if is_best else [])


def _common_notes(run: RunFolder, setting: Setting, values: list[Value]) -> Iterator[str]:
    """Values of the whole data set on the images that all methods have, where these are fewer than a method's own."""
    for value in values:
        rows = common_values(run, setting, value.name)
        if len(rows):
            texts = ", ".join(
                f"{method} {number(common)}" for method, common, _ in rows.itertuples(index=False, name=None)
            )
            yield f"{value.title} on the {rows['common_images'].max():,} images that all methods have: {texts}."
