"""Every status that isn't ok: of which metrics and methods, how many rows."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from axiom_bench.report.tables.table import Cell, Group, Table, row
from axiom_bench.report.tables.text import by_metric, methods_by_status, names_of
from axiom_bench.statistics.metadata import rows_at
from axiom_bench.statistics.run_folder import RunFolder

HEADER = ("Metrics", "Status", "Methods", "Rows of each")


def status_table(run: RunFolder, summary: pd.DataFrame) -> Table:
    """No rows, and a sentence that says so, where all is ok."""
    rows = ((run.label(setting), tuple(_rows(run, rows_at(summary, setting)))) for setting in run.settings)
    groups = tuple(Group(label, own) for label, own in rows if own)
    notes = () if groups else ("Every row has status ok.",)
    return Table("statuses", "Statuses other than ok", HEADER, groups, notes, text_columns=3)


def _rows(run: RunFolder, summary: pd.DataFrame) -> Iterator[tuple[Cell, ...]]:
    """One row for all metrics with the same status of the same methods in as many rows.

    Titles have commas of their own.
    """
    metrics: dict[tuple[str, str, tuple[str, ...]], list[str]] = {}
    of_images = set(summary.loc[~summary["whole_set"].astype(bool), "metric"])
    for value, whole_set, rows in by_metric(run, summary):
        if not whole_set or value.name not in of_images:  # else its images have the same statuses
            for (status, count), methods in methods_by_status(rows).items():
                metrics.setdefault((status, count, methods), []).append(value.title)
    for (status, count, methods), titles in metrics.items():
        yield row("; ".join(titles), status, names_of(run, methods), count)
