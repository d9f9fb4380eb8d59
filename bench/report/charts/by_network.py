"""The errors that no method decides, as box-plots by network: with the default metrics Fig. 2 of the paper."""

from __future__ import annotations

import pandas as pd

from axiom_bench.columns import OK
from axiom_bench.report.charts import boxes
from axiom_bench.report.charts.chart import Chart, Choice, Panel
from axiom_bench.report.figures.captions import counts_by
from axiom_bench.report.options import Options
from axiom_bench.report.run_folder import METHOD_FREE, RunFolder

TITLE = "Method-free errors by network"


def chart(run: RunFolder) -> Chart | None:
    """A panel for each metric of `config.report.figures.over_models`; None where the run has none of them."""
    labels = {tuple(setting): run.label(setting) for setting in run.settings}
    rows = run.records.rows(run.options.figures.over_models)
    rows = rows[(rows["method"] == METHOD_FREE) & (rows["status"] == OK)]
    if rows.empty:
        return None
    places = zip(rows["model"], rows["layer"], rows["data"], strict=True)
    titles = pd.Categorical([labels[place] for place in places], list(labels.values()), ordered=True)
    rows = rows.assign(title=titles)
    measured = set(rows["metric"].unique())
    names = [name for name in run.options.figures.over_models if name in measured]
    parts = [_panel(run, name, rows[rows["metric"] == name]) for name in names]
    caption = f"{parts[0][1].caption} {counts_by(rows, ['metric', 'title'])} a box."
    title = TITLE + (" (Fig. 2 of the paper)" if tuple(names) == Options.of({}).figures.over_models else "")
    return Chart("by-network", title, "", [Choice(title, caption, [panel for panel, _ in parts])], boxes.specs())


def _panel(run: RunFolder, name: str, rows: pd.DataFrame) -> tuple[Panel, boxes.Shown]:
    value = run.value(name)
    shown = boxes.Shown.of(value, rows, [rows["title"]], boxes.all_fit([rows], ["title"]))
    description = f"Box-plots of {value.title} by network."
    return boxes.panel(value.title, description, rows, "title", shown), shown
