"""Cost against quality: each method's run time and what tables lead with of a metric, with its interval."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import NullLocator

from axiom_bench.report.charts.drawing import (
    LETTER,
    Chart,
    Figure,
    across,
    canvas,
    hover,
    legend,
    panels,
    set_title,
    spread_axis,
    wrapped,
)  # fmt: skip
from axiom_bench.report.charts.styles import at_same_spot, axis_title, method_styles, metrics_in_order
from axiom_bench.report.charts.svg import mark
from axiom_bench.report.options import PAGE
from axiom_bench.statistics.labels import Setting, Value, counts_text, rows_at
from axiom_bench.statistics.run_folder import METHOD_FREE, TRACE, RunFolder, milliseconds
from axiom_bench.statistics.summary import leading

CHART = Chart("costs", "Cost against quality", "Metric")
MS = "Milliseconds an image, with the trace"
PANEL, LEGEND, ENTRY = 1.9, 1.4, 0.14  # inches: the width of a panel and of the legend, the height of its entries
COLUMNS = {"title": "Method", "ms": MS, "value": "Value", "low": "95 % interval from", "high": "to", "n": "Rows",
           "images": "Images", "also": "Also here"}  # fmt: skip


def draw(run: RunFolder) -> Iterator[Figure]:
    """One figure for each metric with a direction; none where run time wasn't measured."""
    costs = {setting: ms for setting in run.settings if len(ms := _costs(run, setting)) > 1}
    rows = leading(run.summary)
    rows = rows[(rows["method"] != METHOD_FREE) & (rows["n"] > 0)]
    for value in map(run.metadata.value, metrics_in_order(run, set(rows["metric"]))):
        selected = rows[rows["metric"] == value.name]
        tables = {setting: _table(run, value, rows_at(selected, setting), ms) for setting, ms in costs.items()}
        tables = {setting: table for setting, table in tables.items() if len(table)}
        if not value.has_direction or not tables:
            continue
        everything = pd.concat(tables.values())
        counts = counts_text(everything["images"], everything["n"])
        caption = (
            f"Cost: run time of trace and method together, measured apart from the run. Quality: the {value.lead} with "
            f"its 95 % interval, by image. {counts} a point."
        )
        plot, frame = partial(_plot, run, value, tables), partial(_frame, run, tables)
        title = f"{value.title} and cost"
        yield Figure(f"cost_{value.name}", title, caption, plot, chart=CHART, label=value.title, frame=frame)


def _costs(run: RunFolder, setting: Setting) -> pd.Series:
    """ms an image of each method with its trace."""
    times = milliseconds(run, setting)
    return times.drop(TRACE) + times[TRACE] if TRACE in times else pd.Series(dtype=float)


def _table(run: RunFolder, value: Value, rows: pd.DataFrame, ms: pd.Series) -> pd.DataFrame:
    """A row for each method."""
    rows = rows[rows["method"].isin(ms.index)]
    ends = {end: rows[f"{value.lead}_{end}"].fillna(rows[value.lead]) for end in ("low", "high")}
    table = pd.DataFrame({"method": rows["method"], "ms": rows["method"].map(ms), "value": rows[value.lead], **ends})
    titles = [run.metadata.method_title(name) for name in table["method"]]
    also = at_same_spot(titles, table["ms"], table["value"])
    return table.assign(title=titles, also=also, n=rows["n"], images=rows["images"]).astype({"ms": float})


def _frame(run: RunFolder, tables: Mapping[Setting, pd.DataFrame]) -> pd.DataFrame:
    parts = [table.assign(Network=run.label(setting)) for setting, table in tables.items()]
    table = pd.concat(parts, ignore_index=True).rename(columns=COLUMNS)
    return table[[*(["Network"] if len(tables) > 1 else []), *COLUMNS.values()]]


def _plot(run: RunFolder, value: Value, tables: Mapping[Setting, pd.DataFrame]) -> Canvas:
    styles, per_row = method_styles(run), across(len(tables), PAGE - LEGEND, PANEL, PANEL)
    rows = -(-len(tables) // per_row)
    figure = canvas(PAGE, max(PANEL * rows, 0.3 + ENTRY * len(styles)))
    for axes, (setting, table) in zip(panels(figure, len(tables), per_row), tables.items(), strict=True):
        each: Iterator[Any] = table.itertuples()
        for row, text in zip(each, hover(_frame(run, {setting: table})), strict=True):
            style = styles[row.method]
            look = {"color": style.colour, "label": style.title, "linewidth": 1}
            (bar,) = axes.plot([row.ms, row.ms], [row.low, row.high], **look | {"label": "_bar"})
            (point,) = axes.plot(row.ms, row.value, style.marker, **look, markersize=4.5)
            mark(bar, [row.method])
            mark(point, [row.method], [text])
        _scale(axes, table)
        set_title(axes, run.label(setting), (PAGE - LEGEND) / per_row)
    legend(figure, [style.title for style in styles.values()])
    figure.supxlabel(MS)
    figure.supylabel(wrapped(axis_title(value, value.lead.capitalize()), int(PANEL / LETTER)))
    return figure


def _scale(axes: Any, table: pd.DataFrame) -> None:
    """Time is logarithmic; the values are beyond the smallest where they spread wide."""
    low, high = table["ms"].min() / 1.5, table["ms"].max() * 1.5
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    powers = 10.0 ** np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
    ticks = np.outer(
        powers, (1, 1.5, 2, 3, 5, 7) if high < 10 * low else (1, 2, 5) if high < 50 * low else (1,)
    ).ravel()
    ticks = ticks[(ticks >= low) & (ticks <= high)]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
    spread_axis(axes, "y", table[["low", "value", "high"]].to_numpy().ravel())
