"""Every status that isn't ok: of which metric and methods, how many rows."""

from __future__ import annotations

import pandas as pd

from bench.report.run_folder import RunFolder
from bench.report.summary import at
from bench.report.table import Group, Table, row
from bench.report.tables.text import by_metric, methods_by_status

HEADER = ("Metric", "Status", "Methods", "Rows each")


def status_table(run: RunFolder, summary: pd.DataFrame) -> Table:
    """No rows, and a sentence that says so, where all is ok."""
    groups = []
    for setting in run.settings:
        lines = tuple(
            row(value.title, status, ", ".join(methods), count)
            for value, whole, rows in by_metric(run, at(summary, setting))
            if not whole  # its images have the same
            for (status, count), methods in methods_by_status(rows).items()
        )
        groups += [Group(run.label(setting), lines)] if lines else []
    notes = () if groups else ("Every row has status ok.",)
    return Table("statuses", "Statuses other than ok", HEADER, tuple(groups), notes, text_columns=3)
