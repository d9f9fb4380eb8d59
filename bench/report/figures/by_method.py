"""Every metric as box-plots by method, a panel for each setting."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import pairwise

import pandas as pd
from matplotlib.figure import Figure

from axiom_bench.columns import OK, WHOLE_SET
from axiom_bench.report.figures import axis
from axiom_bench.report.figures.boxes import axis_label, boxes
from axiom_bench.report.figures.captions import counts_by, not_measured
from axiom_bench.report.figures.drawing import LETTER, Drawing, LeftOut, across, canvas, panels, set_title, wrapped
from axiom_bench.report.method_styles import method_styles
from axiom_bench.report.run_folder import METHOD_FREE, RunFolder, Setting, Value, rows_at

PREFIX = "by_method_"  # of the files' names
NAME = 16  # letters of a method's title in one line
PANEL = 1.9  # inches: the width of a panel
TITLES, LINE, GAP = 0.45, 0.118, 0.05  # inches of height: of title and axis, of a line of text, between two boxes


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
            yield LeftOut(f"{value.title} by method", not_measured(run, name))


def _drawing(run: RunFolder, value: Value, rows: pd.DataFrame) -> Drawing:
    defined = rows[rows["status"] == OK]
    methods = [method for method in defined["method"].cat.categories if (defined["method"] == method).any()]
    settings = [setting for setting in run.settings if len(rows_at(defined, setting))]
    fitted = axis.fit(defined["value"], [defined["model"], defined["layer"], defined["data"], defined["method"]])
    caption = " ".join(_caption(run, value, rows, defined, methods)) + (f" {fitted.note}" if fitted.note else "")
    plot = partial(_plot, run, value, defined, settings, methods, fitted)
    return Drawing(f"{PREFIX}{value.name}", f"{value.title} by method", caption, plot)


def _plot(
    run: RunFolder,
    value: Value,
    defined: pd.DataFrame,
    settings: Sequence[Setting],
    methods: list[str],
    fitted: axis.Axis,
    width: float,
) -> Figure:
    styles = method_styles(run)
    names = [wrapped(styles[method].title, NAME) for method in methods]
    label = LETTER * max(len(line) for name in names for line in name.split("\n")) + 0.1
    lines = [1 + name.count("\n") for name in names]
    row = TITLES + len(names) * (GAP + LINE * max((sum(pair) / 2 for pair in pairwise(lines)), default=lines[0]))
    beside = across(len(settings), width - label, PANEL, row)
    figure = canvas(width, row * -(-len(settings) // beside) + 0.25)
    for axes, setting in zip(panels(figure, len(settings), beside, sharey=True, sharex=True), settings, strict=True):
        own = rows_at(defined, setting)
        values = [fitted.drawn(own.loc[own["method"] == method, "value"]) for method in methods]
        boxes(axes, values, [styles[method].colour for method in methods], upright=False, means=True)
        axis.apply(fitted, axes, "x")
        axes.set_ylim(len(methods) - 0.4, -0.6)
        axes.set_yticks(range(len(methods)), names)
        set_title(axes, run.label(setting), (width - label) / beside)
    figure.supxlabel(axis_label(value))
    return figure


def _caption(
    run: RunFolder, value: Value, rows: pd.DataFrame, defined: pd.DataFrame, methods: list[str]
) -> Iterator[str]:
    direction = f", {value.better} is better" if value.has_direction else ""
    counts = counts_by(defined, ["model", "layer", "data", "method"])
    yield f"{value.title} by method{direction}; {counts} in a box; diamonds are means."
    missing = [method for method in dict.fromkeys(rows["method"].sort_values()) if method not in methods]
    if missing:
        statuses = sorted(set(rows.loc[rows["method"].isin(missing), "status"]))
        yield f"Without a value: {', '.join(map(run.method_title, missing))} ({', '.join(statuses)})."
