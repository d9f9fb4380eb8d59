"""Every metric as box-plots by method, a panel for each network."""

from __future__ import annotations

import pandas as pd

from axiom_bench.columns import OK
from axiom_bench.report.charts import boxes
from axiom_bench.report.charts.chart import Chart, Choice, metrics_in_order
from axiom_bench.report.figures.captions import counts_by
from axiom_bench.report.run_folder import METHOD_FREE, RunFolder, rows_at

KEYS = ["model", "layer", "data", "method"]


def chart(run: RunFolder) -> Chart | None:
    """None where no method has a value of an image."""
    names = metrics_in_order(run, run.records.measured(METHOD_FREE, with_value=True))
    every_value = boxes.all_fit((_rows(run, name) for name in names), KEYS)
    choices = [_choice(run, name, _rows(run, name), every_value) for name in names]
    return Chart("by-method", "Each metric by method", "Metric", choices, boxes.specs()) if choices else None


def _rows(run: RunFolder, metric: str) -> pd.DataFrame:
    rows = run.records.rows([metric])
    return rows[(rows["method"] != METHOD_FREE) & (rows["status"] == OK)]


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
