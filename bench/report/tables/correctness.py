"""Every metric of a setting once more, images that the model names correctly and wrongly side by side."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from axiom_bench.report.tables.table import Cell, Group, Table, count
from axiom_bench.report.tables.text import (
    INTERVAL_NOTE,
    PARTIAL,
    by_metric,
    group_title,
    name_of,
    statistic_cell,
    target_note,
    without_value,
)
from axiom_bench.statistics.metadata import Value, rows_at
from axiom_bench.statistics.run_folder import RunFolder
from axiom_bench.statistics.summary import SPLITS

TITLE = "By correctness of the prediction"
HEADER = ("Method", "Rows correct", "Correct [95 %]", "Rows wrong", "Wrong [95 %]", "Rows without a value")
NOTE = (
    "The median of ratios, the mean of all else. Nothing is bold: methods are compared over all rows, in the other "
    f"tables. {PARTIAL} fewer rows than another method has."
)


def correctness_tables(run: RunFolder, split: pd.DataFrame) -> Iterator[Table]:
    """One table for each setting, one group of rows for each metric of single images."""
    for i, setting in enumerate(run.settings, start=1):
        own = rows_at(split, setting)
        notes = (target_note(str(run.config.get("target", "label"))), NOTE, INTERVAL_NOTE)
        metrics = by_metric(run, own)
        groups = tuple(
            Group(group_title(value), tuple(_rows(run, rows, value)), value.name) for value, _, rows in metrics
        )
        label = run.label(setting)
        yield Table(
            f"correctness_{i}", f"{TITLE}, {label}", HEADER, groups, notes, text_last=True, family=TITLE, label=label
        )


def _rows(run: RunFolder, rows: pd.DataFrame, value: Value) -> Iterator[tuple[Cell, ...]]:
    methods = list(dict.fromkeys(rows["method"]))
    parts = {name: rows[rows["split"] == name].set_index("method").reindex(methods) for name in SPLITS}
    n = {name: part["n"].fillna(0).astype(int) for name, part in parts.items()}
    for method in methods:
        cells = [Cell(name_of(run, method))]
        for name in ("correct", "wrong"):
            row = parts[name].loc[method]
            cells += [count(n[name][method]), statistic_cell(row, value.lead)]
        others = without_value(" ".join(rows.loc[rows["method"] == method, "statuses"]))
        unknown = n["unknown"][method]
        yield (*cells, Cell(f"class unknown: {unknown}, {others}" if unknown else others))
