"""The paper-like table: methods as rows; axiom errors, confidence drop, localization and run time as columns."""

from __future__ import annotations

import pandas as pd

from axiom_bench.report.last_lines import random_weights_lines
from axiom_bench.report.numbers import NOTHING, number
from axiom_bench.report.run_folder import METHOD_FREE, RunFolder, Setting, Value, rows_at
from axiom_bench.report.statistics.best import best, winners
from axiom_bench.report.statistics.runtime import TRACE, milliseconds
from axiom_bench.report.statistics.summary import leading
from axiom_bench.report.tables.table import Cell, Group, Table, numeric
from axiom_bench.report.tables.text import (
    common_notes,
    error_notes,
    heading,
    metric_notes,
    statistic_cell,
    status_notes,
)

TIME = Value("time", "Run time", better="lower")
LEGEND = (
    "Bold: best in the arrow's direction, within a group. Images, rows: those with status ok, the fewest and the most "
    "over the columns. s.e.: standard error."
)


def overview_table(run: RunFolder, summary: pd.DataFrame) -> Table:
    """The metrics are those of `config.report.columns` that the run has; the others are named in a note."""
    values = [run.value(name) for name in run.options.columns if name in run.metrics]
    rows = leading(summary[summary["metric"].isin([value.name for value in values])])
    rows = rows[rows["method"] != METHOD_FREE]
    whole_set = set(rows.loc[rows["whole_set"].astype(bool), "metric"])
    groups = [
        Group(run.label(setting), _rows(run, setting, rows_at(rows, setting), values)) for setting in run.settings
    ]
    time = ("Run time\nms/image\N{NO-BREAK SPACE}\N{DOWNWARDS ARROW}",) if len(run.runtime) else ()
    header = ("Method", "Images", "Rows", *(heading(value, value.name in whole_set) for value in values), *time)
    row_notes = (*common_notes(run, rows), *metric_notes(values), *status_notes(run, rows), *_missing(run), *_kept(run))
    notes = (*random_weights_lines(run), LEGEND, *error_notes(run, bool(whole_set)), *_time_notes(run), *row_notes)
    return Table("overview", "Overview", header, tuple(group for group in groups if group.rows), notes)


def _rows(run: RunFolder, setting: Setting, summary: pd.DataFrame, values: list[Value]) -> tuple[tuple[Cell, ...], ...]:
    methods = list(dict.fromkeys(summary["method"]))
    columns = [_counts(summary, methods, name) for name in ("images", "n")]
    for value in values:
        rows = summary[summary["metric"] == value.name].set_index("method").reindex(methods)
        lead = "mean" if rows["whole_set"].eq(True).any() else value.lead
        pairs = zip(rows.iterrows(), winners(run, setting, rows, value), strict=True)
        columns.append([statistic_cell(row, lead, is_best) for (_, row), is_best in pairs])
    if len(run.runtime):
        times = milliseconds(run, setting)
        total = times.reindex(methods) + times.get(TRACE, float("nan"))
        columns.append([numeric(ms, bold=bold) for ms, bold in zip(total, best(total, TIME), strict=True)])
    return tuple((Cell(method), *cells) for method, *cells in zip(methods, *columns, strict=True))


def _counts(summary: pd.DataFrame, methods: list[str], name: str) -> list[Cell]:
    """Each method's smallest and largest count over the columns."""
    counts = summary.groupby("method")[name].agg(["min", "max"]).astype(int).reindex(methods)
    pairs = zip(counts["min"], counts["max"], strict=True)
    return [numeric(high, f"{low}" if low == high else f"{low}{NOTHING}{high}") for low, high in pairs]


def _time_notes(run: RunFolder) -> list[str]:
    if run.runtime.empty:
        return ["Run time wasn't measured in this run."]
    traces = {run.label(setting): milliseconds(run, setting).get(TRACE) for setting in run.settings}
    times = ", ".join(f"{label} {number(ms)} ms" for label, ms in traces.items() if ms is not None)
    return [f"Run time: one trace ({times}), which all methods share, plus the method itself."]


def _kept(run: RunFolder) -> list[str]:
    """How many of the images each model explains, where data.only_correct chooses them."""
    kept = [
        f"{model} {count['kept']:,} of {count['chosen']:,}" + (f" ({data})" if len(run.images(model)) > 1 else "")
        for model in run.manifest.get("models") or ()
        for data, count in run.images(model).items()
        if count["others"]
    ]
    return (
        [f"Each model explains the images that it names correctly, data.only_correct: {', '.join(kept)}."]
        if kept
        else []
    )


def _missing(run: RunFolder) -> list[str]:
    missing = [name for name in run.options.columns if name not in run.metrics]
    return [f"Not in this run: {', '.join(missing)}."] if missing else []
