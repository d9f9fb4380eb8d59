"""Every metric as box-plots by method, a panel for each network."""

from __future__ import annotations

from typing import Any

import pandas as pd

from axiom_bench.columns import OK, WHOLE_SET
from axiom_bench.report.charts import boxes, look
from axiom_bench.report.charts.chart import Chart, Choice, Panel, columns
from axiom_bench.report.figures import axis
from axiom_bench.report.figures.captions import counts_by
from axiom_bench.report.run_folder import METHOD_FREE, RunFolder, Setting, rows_at

PLACE = ["model", "layer", "data"]
SPECS = {False: "boxes", True: "boxes_log"}


def chart(run: RunFolder) -> Chart | None:
    """None where no method has a value of an image."""
    rows = run.records[(run.records["method"] != METHOD_FREE) & (run.records["image_id"] != WHOLE_SET)]
    rows = rows[rows["status"] == OK]
    every_value = len(rows) <= boxes.MAX_VALUES
    choices = [
        _choice(run, name, of_metric, every_value)
        for name in run.metrics
        if not (of_metric := rows[rows["metric"] == name]).empty
    ]
    specs = {name: boxes.spec(log) for log, name in SPECS.items()}
    return Chart("by-method", "Each metric by method", "Metric", choices, specs) if choices else None


def _choice(run: RunFolder, name: str, rows: pd.DataFrame, every_value: bool) -> Choice:
    value = run.value(name)
    fitted = axis.fit(rows["value"], [rows["model"], rows["layer"], rows["data"], rows["method"]])
    least = fitted.low if fitted.log else float(rows["value"].min())  # a logarithmic axis has no place for 0
    params = {**look.limits(fitted.low, fitted.high, fitted.log), "least": least, "title": look.axis_title(value)}
    panels = []
    for setting in run.settings:
        own = rows_at(rows, setting)
        if not own.empty:
            panels.append(_panel(run, setting, value.title, own, every_value, fitted.log, params))
    counts = counts_by(rows, [*PLACE, "method"])
    caption = f"{boxes.CAPTION} {boxes.values_note(every_value)} {counts} a box. {fitted.note}".strip()
    return Choice(value.title, caption, panels)


def _panel(
    run: RunFolder, setting: Setting, title: str, rows: pd.DataFrame, every_value: bool, log: bool,
    params: dict[str, Any],
) -> Panel:  # fmt: skip
    tables = boxes.tables(rows, "method", every_value)
    for table in tables:
        table["group"] = [run.method_title(name) for name in table["method"]]
    label = run.label(setting)
    description = f"Box-plots of {title} by method on {label}; the numbers are in the table below."
    named = dict(zip(("boxes", "values"), map(columns, tables), strict=True))
    return Panel(label, SPECS[log], description, named, boxes.STEP * len(tables[0]), params)
