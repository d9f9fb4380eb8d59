"""The paper-like table: methods as rows; axiom errors, confidence drop, localization and run time as columns."""

from __future__ import annotations

import pandas as pd

from axiom_bench.report.numbers import number
from axiom_bench.report.resampling import NOTE
from axiom_bench.report.run_folder import METHOD_FREE, RunFolder, Setting, Value
from axiom_bench.report.summary import at, best, leading
from axiom_bench.report.table import Cell, Group, Table
from axiom_bench.report.tables.text import heading, metric_notes, statistic, status_notes
from axiom_bench.report.times import TRACE, milliseconds

TIME = Value("time", "Run time", better="lower")
LEGEND = (
    "Bold: best in the arrow's direction, within a group. n: rows with status ok, the fewest and the most over the "
    "columns. s.e.: standard error."
)


def overview_table(run: RunFolder, summary: pd.DataFrame) -> Table:
    """The metrics are those of `config.report.columns` that the run has; the others are named in a note."""
    values = [run.value(name) for name in run.options.columns if name in run.metrics]
    shown = leading(summary[summary["metric"].isin([value.name for value in values])])
    shown = shown[shown["method"] != METHOD_FREE]
    whole = set(shown.loc[shown["whole_set"].astype(bool), "metric"])
    groups = [Group(run.label(setting), _rows(run, setting, at(shown, setting), values)) for setting in run.settings]
    time = ("Run time\nms/image\N{NO-BREAK SPACE}\N{DOWNWARDS ARROW}",) if len(run.runtime) else ()
    header = ("Method", "n", *(heading(value, value.name in whole) for value in values), *time)
    about_rows = (*metric_notes(values), *status_notes(run, shown), *_absent(run), *_kept(run))
    notes = (LEGEND, *([NOTE] if whole else ()), *_time_notes(run), *about_rows)
    return Table("overview", "Overview", header, tuple(group for group in groups if group.rows), notes)


def _rows(run: RunFolder, setting: Setting, here: pd.DataFrame, values: list[Value]) -> tuple[tuple[Cell, ...], ...]:
    methods = list(dict.fromkeys(here["method"]))
    columns = [_counts(here, methods)]
    for value in values:
        rows = here[here["metric"] == value.name].set_index("method").reindex(methods)
        lead = "mean" if rows["whole_set"].eq(True).any() else value.lead
        texts = [statistic(one, lead) for _, one in rows.iterrows()]
        columns.append([Cell(*pair) for pair in zip(texts, best(rows[value.lead], value), strict=True)])
    if len(run.runtime):
        times = milliseconds(run, setting)
        total = times.reindex(methods) + times.get(TRACE, float("nan"))
        columns.append([Cell(number(ms), bold) for ms, bold in zip(total, best(total, TIME), strict=True)])
    return tuple((Cell(method), *cells) for method, *cells in zip(methods, *columns, strict=True))


def _counts(here: pd.DataFrame, methods: list[str]) -> list[Cell]:
    n = here.groupby("method")["n"].agg(["min", "max"]).astype(int).reindex(methods)
    pairs = zip(n["min"], n["max"], strict=True)
    return [Cell(f"{low}" if low == high else f"{low}\N{EN DASH}{high}") for low, high in pairs]


def _time_notes(run: RunFolder) -> list[str]:
    if run.runtime.empty:
        return ["Run time wasn't measured in this run."]
    traces = {run.label(setting): milliseconds(run, setting).get(TRACE) for setting in run.settings}
    said = ", ".join(f"{label} {number(ms)} ms" for label, ms in traces.items() if ms is not None)
    return [f"Run time: one trace ({said}), which all methods share, plus the method itself."]


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


def _absent(run: RunFolder) -> list[str]:
    absent = [name for name in run.options.columns if name not in run.metrics]
    return [f"Not in this run: {', '.join(absent)}."] if absent else []
