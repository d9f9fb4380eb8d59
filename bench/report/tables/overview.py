"""The tables to begin with: methods as rows, and metrics or, of one metric for a paper, networks as columns."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from axiom_bench.report.last_lines import random_weights_lines
from axiom_bench.report.options import options_of
from axiom_bench.report.tables.table import Cell, Group, Table, numeric
from axiom_bench.report.tables.text import (
    BOLD_NOTE,
    INTERVAL_NOTE,
    common_notes,
    construction_notes,
    group_title,
    heading,
    interval_notes,
    marked,
    metric_notes,
    statistic,
    statistic_cell,
    status_notes,
)
from axiom_bench.statistics.labels import Setting, Value, counts_text, number, rows_at
from axiom_bench.statistics.ranking import best, best_methods
from axiom_bench.statistics.run_folder import METHOD_FREE, TRACE, RunFolder, milliseconds
from axiom_bench.statistics.summary import leading

TIME = Value("time", "Run time", better="lower")


def overview_table(run: RunFolder, summary: pd.DataFrame) -> Table:
    """The metrics are those of `config.report.columns` that the run has; the others are named in a note."""
    values = [run.metadata.value(name) for name in options_of(run).columns if name in run.metrics]
    rows = leading(summary[summary["metric"].isin([value.name for value in values])])
    rows = rows[rows["method"] != METHOD_FREE]
    whole_set = set(rows.loc[rows["whole_set"].astype(bool), "metric"])
    groups = [
        Group(run.label(setting), _rows(run, setting, rows_at(rows, setting), values)) for setting in run.settings
    ]
    time = ("Run time\nms/image\N{NO-BREAK SPACE}\N{DOWNWARDS ARROW}",) if len(run.runtime) else ()
    header = ("Method", *(heading(value, value.name in whole_set) for value in values), *time)
    notes = (
        *random_weights_lines(run), *_counts(run, rows), BOLD_NOTE, *interval_notes(run, bool(whole_set)),
        *construction_notes(run, rows), *common_notes(run, rows), *status_notes(run, rows), *_time_notes(run),
        *metric_notes(values), *_missing(run), *_kept(run),
    )  # fmt: skip
    return Table("overview", "Overview", header, tuple(group for group in groups if group.rows), notes)


def _rows(run: RunFolder, setting: Setting, summary: pd.DataFrame, values: list[Value]) -> tuple[tuple[Cell, ...], ...]:
    """A row for each method that has a value; notes say why others have none."""
    measured = set(summary.loc[summary["n"] > 0, "method"])
    methods = [method for method in dict.fromkeys(summary["method"]) if method in measured]
    columns = []
    for value in values:
        rows = summary[summary["metric"] == value.name].set_index("method").reindex(methods)
        lead = "mean" if rows["whole_set"].eq(True).any() else value.lead
        best_names = best_methods(run, setting, value.name)
        columns.append([statistic_cell(row, lead, method in best_names) for method, row in rows.iterrows()])
    if len(run.runtime):
        times = milliseconds(run, setting)
        total = times.reindex(methods) + times.get(TRACE, float("nan"))
        columns.append([numeric(ms, bold=bold) for ms, bold in zip(total, best(total, TIME), strict=True)])
    return tuple(
        (Cell(run.metadata.method_title(name)), *cells) for name, *cells in zip(methods, *columns, strict=True)
    )


def _counts(run: RunFolder, summary: pd.DataFrame) -> list[str]:
    """How many images and rows a setting has."""
    labels: dict[str, list[str]] = {}
    for setting in run.settings:
        rows = rows_at(summary, setting)
        if (rows["n"] > 0).any():
            counts = counts_text([rows["images"].max()], [rows["n"].max()])
            labels.setdefault(counts, []).append(run.label(setting))
    parts = [counts if len(labels) == 1 else f"{', '.join(names)} {counts}" for counts, names in labels.items()]
    return [f"{'; '.join(parts)}; a row is an image and an explained class."] if parts else []


def _time_notes(run: RunFolder) -> list[str]:
    if run.runtime.empty:
        return ["Run time wasn't measured in this run."]
    traces = {run.label(setting): milliseconds(run, setting).get(TRACE) for setting in run.settings}
    times = ", ".join(f"{label} {number(ms)} ms" for label, ms in traces.items() if ms is not None)
    return [f"Run time: one trace ({times}), which all methods share, plus the method itself."]


def _kept(run: RunFolder) -> list[str]:
    """How many of the images each model explains, where data.only_correct chooses them."""
    kept = [
        f"{model} {count['kept']:,} of {count['chosen']:,}"
        + (f" ({data})" if len(run.metadata.images(model)) > 1 else "")
        for model in run.manifest.get("models") or ()
        for data, count in run.metadata.images(model).items()
        if count["others"]
    ]
    return (
        [f"Each model explains the images that it names correctly, data.only_correct: {', '.join(kept)}."]
        if kept
        else []
    )


def _missing(run: RunFolder) -> list[str]:
    missing = [name for name in options_of(run).columns if name not in run.metrics]
    return [f"Not in this run: {', '.join(missing)}."] if missing else []


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
