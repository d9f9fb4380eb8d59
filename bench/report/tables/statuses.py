"""Every status that isn't ok: of which metrics and methods, how many rows."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from axiom_bench.report.run_folder import RunFolder
from axiom_bench.report.summary import at
from axiom_bench.report.table import Cell, Group, Table, row
from axiom_bench.report.tables.text import by_metric, methods_by_status

HEADER = ("Metrics", "Status", "Methods", "Rows of each")


def status_table(run: RunFolder, summary: pd.DataFrame) -> Table:
    """No rows, and a sentence that says so, where all is ok."""
    found = ((run.label(setting), tuple(_rows(run, at(summary, setting)))) for setting in run.settings)
    groups = tuple(Group(label, lines) for label, lines in found if lines)
    notes = () if groups else ("Every row has status ok.",)
    return Table("statuses", "Statuses other than ok", HEADER, groups, notes, text_columns=3)


def _rows(run: RunFolder, summary: pd.DataFrame) -> Iterator[tuple[Cell, ...]]:
    """One row for all metrics with the same status of the same methods in as many rows.

    Titles have commas of their own.
    """
    metrics: dict[tuple[str, str, tuple[str, ...]], list[str]] = {}
    for value, whole, rows in by_metric(run, summary):
        if not whole:  # its images have the same
            for (status, count), methods in methods_by_status(rows).items():
                metrics.setdefault((status, count, methods), []).append(value.title)
    for (status, count, methods), titles in metrics.items():
        yield row("; ".join(titles), status, ", ".join(methods), count)
