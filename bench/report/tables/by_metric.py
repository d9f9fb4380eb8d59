"""Every metric of a setting: its methods' n, median, mean, standard error and the statuses that aren't ok."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from axiom_bench.report import resampling
from axiom_bench.report.numbers import number
from axiom_bench.report.run_folder import RunFolder, Value
from axiom_bench.report.summary import at, best
from axiom_bench.report.table import Cell, Group, Table, row
from axiom_bench.report.tables.text import by_metric, group_title, metric_notes, name_of, other_statuses

HEADER = ("Method", "n", "Median", "Mean", "Standard error", "Other statuses")
NOTE = (
    "n: rows with status ok, which the statistics are over. Bold: best in the metric's direction, by the median for "
    "ratios, whose tails are heavy where the score is near 0, and else by the mean."
)


def metric_tables(run: RunFolder, summary: pd.DataFrame) -> Iterator[Table]:
    """One table for each setting, one group of rows for each metric."""
    for i, setting in enumerate(run.settings, start=1):
        metrics = list(by_metric(run, at(summary, setting)))
        groups = tuple(Group(group_title(value, whole), tuple(_rows(rows, value))) for value, whole, rows in metrics)
        errors = (resampling.NOTE,) if any(whole for _, whole, _ in metrics) else ()
        notes = (NOTE, *errors, *metric_notes(value for value, _, _ in metrics))
        yield Table(f"metrics_{i}", f"All metrics, {run.label(setting)}", HEADER, groups, notes, text_last=True)


def _rows(rows: pd.DataFrame, value: Value) -> Iterator[tuple[Cell, ...]]:
    lead = 2 if value.lead == "median" else 3
    for (_, one), winner in zip(rows.iterrows(), best(rows[value.lead], value), strict=True):
        numbers = (number(one[name]) for name in ("median", "mean", "standard_error"))
        texts = (name_of(one["method"]), str(one["n"]), *numbers, other_statuses(one["statuses"]))
        yield row(*texts, bold=[lead] if winner else [])
