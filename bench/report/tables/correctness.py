"""Every metric of a setting once more, images that the model names correctly and wrongly side by side."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from axiom_bench.report.run_folder import RunFolder, Setting, Value, rows_at
from axiom_bench.report.statistics.best import winners
from axiom_bench.report.statistics.summary import SPLITS
from axiom_bench.report.tables.table import Cell, Group, Table, count
from axiom_bench.report.tables.text import (
    ERROR_NOTE,
    by_metric,
    common_notes,
    group_title,
    name_of,
    other_statuses,
    statistic_cell,
    target_note,
)

TITLE = "By correctness of the prediction"
HEADER = ("Method", "Rows correct", "Correct", "Rows wrong", "Wrong", "Other statuses")
NOTE = "Median (mean) of ratios, mean \N{PLUS-MINUS SIGN} standard error of all else, over the rows with status ok."


def correctness_tables(run: RunFolder, split: pd.DataFrame) -> Iterator[Table]:
    """One table for each setting, one group of rows for each metric of single images."""
    for i, setting in enumerate(run.settings, start=1):
        own = rows_at(split, setting)
        notes = (target_note(str(run.config.get("target", "label"))), NOTE, ERROR_NOTE, *common_notes(run, own))
        metrics = by_metric(run, own)
        groups = tuple(
            Group(group_title(value), tuple(_rows(run, setting, rows, value)), value.name) for value, _, rows in metrics
        )
        label = run.label(setting)
        yield Table(
            f"correctness_{i}", f"{TITLE}, {label}", HEADER, groups, notes, text_last=True, family=TITLE, label=label
        )


def _rows(run: RunFolder, setting: Setting, rows: pd.DataFrame, value: Value) -> Iterator[tuple[Cell, ...]]:
    methods = list(dict.fromkeys(rows["method"]))
    parts = {name: rows[rows["split"] == name].set_index("method").reindex(methods) for name in SPLITS}
    n = {name: part["n"].fillna(0).astype(int) for name, part in parts.items()}
    is_best = {name: winners(run, setting, part, value) for name, part in parts.items()}
    for method in methods:
        cells = [Cell(name_of(method))]
        for name in ("correct", "wrong"):
            row = parts[name].loc[method]
            cells += [count(n[name][method]), statistic_cell(row, value.lead, bool(is_best[name][method]))]
        others = other_statuses(" ".join(rows.loc[rows["method"] == method, "statuses"]))
        unknown = n["unknown"][method]
        yield (*cells, Cell(f"class unknown {unknown}, {others}" if unknown else others))
