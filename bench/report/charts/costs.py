"""Cost against quality: each method's run time and what tables lead with of a metric, with its interval."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import NullLocator

from axiom_bench.report.charts import drawing
from axiom_bench.report.charts.drawing import LETTER, PANEL, Chart, Figure, hover
from axiom_bench.report.charts.styles import at_same_spot, axis_title, method_styles, metrics_in_order
from axiom_bench.report.charts.svg import mark
from axiom_bench.statistics.labels import Value, counts_text, rows_at
from axiom_bench.statistics.run_folder import METHOD_FREE, TRACE, RunFolder, milliseconds
from axiom_bench.statistics.summary import leading

CHART = Chart("costs", "Cost against quality", "Metric")
MS = "Milliseconds an image, with the trace"
LOW = "95 % interval from"


def draw(run: RunFolder) -> Iterator[Figure]:
    """One figure for each metric with a direction; none where run time wasn't measured."""
    times = {setting: milliseconds(run, setting) for setting in run.settings}
    costs = {setting: ms.drop(TRACE) + ms[TRACE] for setting, ms in times.items() if TRACE in ms and len(ms) > 2}
    rows = leading(run.summary)
    rows = rows[(rows["method"] != METHOD_FREE) & (rows["n"] > 0)]
    for value in map(run.metadata.value, metrics_in_order(run, set(rows["metric"]))):
        selected = rows[rows["metric"] == value.name]
        settings, same = drawing.told_apart(run, value.name)
        tables = {run.label(at): _table(run, value, rows_at(selected, at), costs[at]) for at in settings if at in costs}
        tables = {label: table for label, table in tables.items() if len(table)}
        if not value.has_direction or not tables:
            continue
        frame = drawing.by_network(tables)
        caption = (
            f"Cost: run time of trace and method together, measured apart from the run. Quality: the {value.lead} with "
            f"its 95 % interval, by image. {counts_text(frame['Images'], frame['Rows'])} a point. {same}".rstrip()
        )
        plot, title = partial(_plot, run, value, tables), f"{value.title} and cost"
        yield Figure(f"cost_{value.name}", title, caption, plot, chart=CHART, label=value.title, frame=frame)


def _table(run: RunFolder, value: Value, rows: pd.DataFrame, ms: pd.Series) -> pd.DataFrame:
    """A row for each method. ms: by method."""
    rows = rows[rows["method"].isin(ms.index)].set_index("method")
    titles = [run.metadata.method_title(name) for name in rows.index]
    low, high = (rows[f"{value.lead}_{end}"].fillna(rows[value.lead]) for end in ("low", "high"))
    points: dict[str, Any] = {"Method": titles, MS: ms.reindex(rows.index).astype(float), "Value": rows[value.lead]}
    counts = {"Rows": rows["n"], "Images": rows["images"]}
    also = {"Also here": at_same_spot(titles, points[MS], points["Value"])}
    return pd.DataFrame({**points, LOW: low, "to": high, **counts, **also})


def _plot(run: RunFolder, value: Value, tables: Mapping[str, pd.DataFrame]) -> Canvas:
    titles = [style.title for style in method_styles(run).values()]
    figure = drawing.side_by_side({label: partial(_fill, run, table) for label, table in tables.items()}, titles)
    figure.supxlabel(MS)
    figure.supylabel(drawing.wrapped(axis_title(value, value.lead.capitalize()), int(PANEL / LETTER)))
    return figure


def _fill(run: RunFolder, table: pd.DataFrame, axes: Any) -> None:
    """Time is logarithmic; the values are beyond the smallest where they spread wide."""
    styles = method_styles(run)
    for (method, row), text in zip(table.iterrows(), hover(table), strict=True):
        style = styles[str(method)]
        (bar,) = axes.plot([row[MS], row[MS]], [row[LOW], row["to"]], color=style.colour, label="_bar", linewidth=1)
        look = {"color": style.colour, "label": style.title, "linewidth": 1, "markersize": 4.5}
        (point,) = axes.plot(row[MS], row["Value"], style.marker, **look)
        mark(bar, [str(method)])
        mark(point, [str(method)], [text])
    low, high = table[MS].min() / 1.5, table[MS].max() * 1.5
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    powers = 10.0 ** np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
    steps = (1, 1.5, 2, 3, 5, 7) if high < 10 * low else (1, 2, 5) if high < 50 * low else (1,)
    ticks = np.outer(powers, steps).ravel()
    ticks = ticks[(ticks >= low) & (ticks <= high)]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
    drawing.spread_axis(axes, "y", table[[LOW, "Value", "to"]].to_numpy().ravel())
