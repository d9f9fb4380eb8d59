"""Every metric as box-plots by method, a panel for each setting."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import pandas as pd
from matplotlib.figure import Figure

from axiom_bench.columns import OK, WHOLE_SET
from axiom_bench.report.figures import axis
from axiom_bench.report.figures.boxes import axis_label, boxes
from axiom_bench.report.figures.captions import counts_by
from axiom_bench.report.figures.drawing import Drawing, LeftOut, canvas, panels
from axiom_bench.report.run_folder import METHOD_FREE, RunFolder, Setting, Value, rows_at

PREFIX = "by_method_"  # of the files' names


def draw(run: RunFolder) -> Iterator[Drawing | LeftOut]:
    """One figure for each metric that measures methods."""
    images = run.records[(run.records["method"] != METHOD_FREE) & (run.records["image_id"] != WHOLE_SET)]
    for name in run.metrics:
        rows = images[images["metric"] == name]
        value = run.value(name)
        if rows.empty:
            continue
        if (rows["status"] == OK).any():
            yield _drawing(run, value, rows)
        else:
            yield LeftOut(f"{value.title} by method", f"No row of {name} has status ok.")


def _drawing(run: RunFolder, value: Value, rows: pd.DataFrame) -> Drawing:
    defined = rows[rows["status"] == OK]
    methods = [method for method in defined["method"].cat.categories if (defined["method"] == method).any()]
    settings = [setting for setting in run.settings if len(rows_at(defined, setting))]
    fitted = axis.fit(defined["value"], [defined["model"], defined["layer"], defined["data"], defined["method"]])
    caption = " ".join(_caption(value, rows, defined, methods)) + (f" {fitted.note}" if fitted.note else "")
    plot = partial(_plot, run, value, defined, settings, methods, fitted)
    return Drawing(f"{PREFIX}{value.name}", f"{value.title} by method", caption, plot)


def _plot(
    run: RunFolder,
    value: Value,
    defined: pd.DataFrame,
    settings: Sequence[Setting],
    methods: list[str],
    fitted: axis.Axis,
) -> Figure:
    columns = min(3, len(settings))
    lines = -(-len(settings) // columns)
    figure = canvas(2.2 + 2.9 * columns, lines * (0.9 + 0.3 * len(methods)))
    for axes, setting in zip(panels(figure, len(settings), sharey=True, sharex=True), settings, strict=True):
        own = rows_at(defined, setting).astype({"method": str})
        boxes(axes, own.assign(value=fitted.drawn(own["value"])), "value", "method", methods, means=True)
        axis.apply(fitted, axes, "x")
        axes.set(ylabel="")
        axes.set_title(run.label(setting))
        axes.set_xlabel("")
    figure.supxlabel(axis_label(value), fontsize=10)
    return figure


def _caption(value: Value, rows: pd.DataFrame, defined: pd.DataFrame, methods: list[str]) -> Iterator[str]:
    direction = f", {value.better} is better" if value.has_direction else ""
    counts = counts_by(defined, ["model", "layer", "data", "method"])
    yield f"{value.title} by method{direction}; {counts} in a box; diamonds are means."
    missing = [method for method in dict.fromkeys(rows["method"].sort_values()) if method not in methods]
    if missing:
        statuses = sorted(set(rows.loc[rows["method"].isin(missing), "status"]))
        yield f"Without a value: {', '.join(missing)} ({', '.join(statuses)})."
