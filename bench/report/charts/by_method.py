"""Every metric as box-plots by method, a panel for each network."""

from __future__ import annotations

import pandas as pd

from axiom_bench.columns import OK, WHOLE_SET
from axiom_bench.report.charts import boxes
from axiom_bench.report.charts.chart import Chart, Choice, metrics_in_order
from axiom_bench.report.figures.captions import counts_by
from axiom_bench.report.run_folder import METHOD_FREE, RunFolder, rows_at

KEYS = ["model", "layer", "data", "method"]


def chart(run: RunFolder) -> Chart | None:
    """None where no method has a value of an image."""
    rows = run.records[(run.records["method"] != METHOD_FREE) & (run.records["image_id"] != WHOLE_SET)]
    rows = rows[rows["status"] == OK]
    every_value = boxes.all_fit(rows, [*KEYS, "metric"])
    names = metrics_in_order(run, set(rows["metric"].unique()))
    choices = [_choice(run, name, rows[rows["metric"] == name], every_value) for name in names]
    return Chart("by-method", "Each metric by method", "Metric", choices, boxes.specs()) if choices else None


def _choice(run: RunFolder, name: str, rows: pd.DataFrame, every_value: bool) -> Choice:
    value = run.value(name)
    shown = boxes.Shown.of(value, rows, [rows[key] for key in KEYS], every_value)
    panels = []
    for setting in run.settings:
        own = rows_at(rows, setting)
        if not own.empty:
            label = run.label(setting)
            description = f"Box-plots of {value.title} by method, {label}."
            panels.append(boxes.panel(label, description, own, "method", shown))
    return Choice(value.title, f"{shown.caption} {counts_by(rows, KEYS)} a box.", panels)
