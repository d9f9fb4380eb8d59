"""Every metric as box-plots by method, a panel for each setting."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from axiom_bench.columns import WHOLE_SET
from axiom_bench.report.figures import axis
from axiom_bench.report.figures.boxes import axis_label, boxes
from axiom_bench.report.figures.drawing import Drawing, LeftOut, canvas, panels, style
from axiom_bench.report.run_folder import METHOD_FREE, RunFolder, Value
from axiom_bench.report.summary import at

PREFIX = "by_method_"  # of the files' names


def draw(run: RunFolder) -> Iterator[Drawing | LeftOut]:
    """One figure for each metric that measures methods."""
    images = run.records[(run.records["method"] != METHOD_FREE) & (run.records["image_id"] != WHOLE_SET)]
    for name in run.metrics:
        rows = images[images["metric"] == name]
        value = run.value(name)
        if rows.empty:
            continue
        if (rows["status"] == "ok").any():
            yield _drawing(run, value, rows)
        else:
            yield LeftOut(f"{value.title} by method", f"No row of {name} has status ok.")


def _drawing(run: RunFolder, value: Value, rows: pd.DataFrame) -> Drawing:
    known = rows[rows["status"] == "ok"]
    methods = [method for method in known["method"].cat.categories if (known["method"] == method).any()]
    settings = [setting for setting in run.settings if len(at(known, setting))]
    fitted = axis.fit(known["value"], [known["model"], known["layer"], known["data"], known["method"]])
    columns = min(3, len(settings))
    lines = -(-len(settings) // columns)
    with style():
        figure = canvas(2.2 + 2.9 * columns, lines * (0.9 + 0.3 * len(methods)))
        for axes, setting in zip(panels(figure, len(settings), sharey=True, sharex=True), settings, strict=True):
            here = at(known, setting).astype({"method": str})
            boxes(axes, here.assign(value=fitted.drawn(here["value"])), "value", "method", methods, means=True)
            axis.apply(fitted, axes, "x")
            axes.set(ylabel="")
            axes.set_title(run.label(setting))
            axes.set_xlabel("")
        figure.supxlabel(axis_label(value), fontsize=10)
    caption = " ".join(_caption(value, rows, known, methods)) + (f" {fitted.note}" if fitted.note else "")
    return Drawing(f"{PREFIX}{value.name}", f"{value.title} by method", caption, figure)


def _caption(value: Value, rows: pd.DataFrame, known: pd.DataFrame, methods: list[str]) -> Iterator[str]:
    direction = f", {value.better} is better" if value.better in ("lower", "higher") else ""
    counts = known.groupby(["model", "layer", "data", "method"], observed=True).size()
    n = f"{counts.min():,}" if counts.min() == counts.max() else f"{counts.min():,} to {counts.max():,}"
    yield f"{value.title} by method{direction}; n = {n} in a box; diamonds are means."
    absent = [method for method in dict.fromkeys(rows["method"].sort_values()) if method not in methods]
    if absent:
        statuses = sorted(set(rows.loc[rows["method"].isin(absent), "status"]))
        yield f"Without a value: {', '.join(absent)} ({', '.join(statuses)})."
