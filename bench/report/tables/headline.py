"""One short table for each headline metric: methods as rows, networks as columns, for a paper."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from axiom_bench.report.options import options_of
from axiom_bench.report.tables.table import Cell, Group, Table
from axiom_bench.report.tables.text import (
    BOLD_NOTE,
    INTERVAL_NOTE,
    common_notes,
    construction_notes,
    group_title,
    heading,
    marked,
    statistic,
    status_notes,
)
from axiom_bench.statistics.metadata import Setting, Value, rows_at
from axiom_bench.statistics.numbers import counts_text
from axiom_bench.statistics.places import best_methods
from axiom_bench.statistics.run_folder import METHOD_FREE, RunFolder
from axiom_bench.statistics.summary import leading


def headline_tables(run: RunFolder, summary: pd.DataFrame) -> Iterator[Table]:
    """Of the metrics of `config.report.headline` that the run has, where a method has a value."""
    for name in options_of(run).headline:
        rows = leading(summary[(summary["metric"] == name) & (summary["method"] != METHOD_FREE)])
        if (rows["n"] > 0).any():
            yield headline_table(run, run.metadata.value(name), rows)


def headline_table(run: RunFolder, value: Value, rows: pd.DataFrame) -> Table:
    """rows: of the summary, of this metric alone. A method without any value is left out; a note says why."""
    measured = set(rows.loc[rows["n"] > 0, "method"])
    methods = [method for method in run.methods if method in measured]
    settings = [setting for setting in run.settings if len(rows_at(rows, setting))]
    columns = [_column(run, setting, rows_at(rows, setting), value, methods) for setting in settings]
    lines = tuple(
        (Cell(run.metadata.method_title(method)), *cells) for method, *cells in zip(methods, *columns, strict=True)
    )
    _, _, shown = heading(value, bool(rows["whole_set"].any())).partition("\n")
    defined = rows[rows["n"] > 0]
    notes = (
        f"Shown: {shown}. {counts_text(defined['images'], defined['n'])}.",
        BOLD_NOTE,
        INTERVAL_NOTE,
        *construction_notes(run, rows),
        *common_notes(run, rows),
        *status_notes(run, rows),
    )
    header = ("Method", *map(run.label, settings))
    return Table(f"headline_{value.name}", group_title(value), header, (Group("", lines),), notes)


def _column(run: RunFolder, setting: Setting, rows: pd.DataFrame, value: Value, methods: list[str]) -> list[Cell]:
    own = rows.set_index("method").reindex(methods)
    lead = "mean" if own["whole_set"].eq(True).any() else value.lead
    texts = [marked(statistic(row, lead), row) for _, row in own.iterrows()]
    best_names = best_methods(run, setting, value.name)
    return [Cell(text, method in best_names) for text, method in zip(texts, methods, strict=True)]
