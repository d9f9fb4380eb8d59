"""Charts with a point for each method: the axiom plane, by what tables lead with of both axiom
errors, of the methods on the score's scale; and run time against quality.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from axiom_bench.columns import OK
from axiom_bench.report.charts import drawing
from axiom_bench.report.charts.drawing import LETTER, PANEL, Chart, Figure, LeftOut
from axiom_bench.report.charts.styles import (
    MethodStyle,
    at_same_spot,
    axis_title,
    method_styles,
    metrics_in_order,
)
from axiom_bench.report.options import options_of
from axiom_bench.statistics.labels import Setting, Value, counts_text, number, rows_at
from axiom_bench.statistics.run_folder import METHOD_FREE, TRACE, RunFolder, milliseconds
from axiom_bench.statistics.summary import leading

PLANE = Chart("axiom-plane", "Axiom plane", "")
ROW = ["image_id", "target_class"]


class Plane(NamedTuple):
    """points: method -> (x, y), what tables lead with, over the rows where every drawn method has
    both values. images: how many images these `rows` are of; all_rows: rows of the setting.
    """

    points: pd.DataFrame
    images: int
    rows: int
    all_rows: int


def axiom_plane(run: RunFolder, setting: Setting, errors: Sequence[str]) -> Plane | None:
    """The methods on the score's scale by two errors, the metrics of the axes x and y; None where
    no row has both of every such method.
    """
    x, y = errors
    rows = rows_at(run.records.rows([x, y]), setting)
    rows = rows[rows["status"] == OK].astype(
        {"image_id": str}
    )  # pandas can't look up categories in a pair of columns
    on_scale = [
        name for name in rows["method"].cat.categories if run.metadata.method(name).on_score_scale
    ]
    values = rows[rows["method"].isin(on_scale)]
    table = values.pivot_table(
        index=ROW, columns=["method", "metric"], values="value", observed=True
    )
    both = [name for name in on_scale if (name, x) in table.columns and (name, y) in table.columns]
    table = table[[(name, metric) for name in both for metric in (x, y)]].dropna()
    if table.empty:
        return None
    columns = {
        name: table.xs(name, axis=1, level="metric").agg(run.metadata.value(name).lead)
        for name in errors
    }
    images = table.index.get_level_values("image_id").nunique()
    return Plane(pd.DataFrame(columns), images, len(table), len(run.layouts[setting].images))


MOST_PANEL = 2.8  # inches: the most of a panel's width


def draw_plane(run: RunFolder) -> Iterator[Figure | LeftOut]:
    """A panel for each setting where a method on the score's scale has both errors."""
    chosen = options_of(run).figures
    if not chosen.plane:
        yield LeftOut(
            PLANE.title, "No two errors are chosen: report.figures.plane=[METRIC,METRIC]."
        )
        return
    settings, same = drawing.told_apart(run, *chosen.plane)
    drawn = {run.label(setting): axiom_plane(run, setting, chosen.plane) for setting in settings}
    planes = {label: plane for label, plane in drawn.items() if plane is not None}
    if not planes:
        missing = [name for name in chosen.plane if name not in run.metrics]
        add = f"; add metric=[...,{','.join(missing)}]" if missing else ""
        errors = " and ".join(chosen.plane)
        yield LeftOut(
            PLANE.title, same or f"No method on the score's scale has values of both {errors}{add}."
        )
        return
    counts = ", ".join(
        f"{label} {plane.images:,} images, {plane.rows:,} of {plane.all_rows:,} rows"
        for label, plane in planes.items()
    )
    caption = (
        "Each method on the score's scale, over the rows where all of them have both errors "
        f"({counts}). Methods on one spot are rings around it. {same}"
    ).rstrip()
    axes = [run.metadata.value(name) for name in chosen.plane]
    axis_titles = [axis_title(value, value.lead.capitalize()) for value in axes]
    frames = {label: _plane_frame(run, plane, axis_titles) for label, plane in planes.items()}
    plot = partial(_plot_plane, run, planes, axis_titles)
    yield Figure(
        "axiom_plane", PLANE.title, caption, plot, chart=PLANE, frame=drawing.by_network(frames)
    )


def _plane_frame(run: RunFolder, plane: Plane, axis_titles: Sequence[str]) -> pd.DataFrame:
    methods = [run.metadata.method_title(name) for name in plane.points.index]
    values = dict(zip(axis_titles, plane.points.to_numpy().T, strict=True))
    return pd.DataFrame(
        {"Method": methods, **values, "Also here": at_same_spot(methods, *values.values())}
    )


def _plot_plane(run: RunFolder, planes: Mapping[str, Plane], axis_titles: Sequence[str]) -> Canvas:
    styles = method_styles(run)
    shown = {label: partial(_fill_plane, plane, styles) for label, plane in planes.items()}
    figure = drawing.side_by_side(
        shown, [style.title for style in styles.values()], square=MOST_PANEL
    )
    figure.supxlabel(axis_titles[0])
    figure.supylabel(drawing.wrapped(axis_titles[1], int(PANEL / LETTER)))
    for handle in figure.legends[0].legend_handles:
        if isinstance(handle, Line2D):
            handle.set_markersize(5)
    return figure


def _fill_plane(plane: Plane, styles: Mapping[str, MethodStyle], axes: Any) -> None:
    rings: Counter[tuple[str, ...]] = Counter()
    for method, (x, y) in zip(plane.points.index, plane.points.to_numpy(), strict=True):
        # Methods that tie in theory lie on one spot: each later one is a wider ring around the
        # first.
        spot, style = (number(x), number(y)), styles[method]
        look = {
            "marker": style.marker,
            "markersize": 5 + 4 * rings[spot],
            "markeredgecolor": style.colour,
        }
        look |= {"markerfacecolor": "none" if rings[spot] else style.colour, "markeredgewidth": 1.2}
        rings[spot] += 1
        axes.plot(x, y, label=style.title, linestyle="none", zorder=4, clip_on=False, **look)
    for axis_name, points in zip("xy", plane.points.to_numpy().T, strict=True):
        drawing.spread_axis(axes, axis_name, points, from_zero=True)


COSTS = Chart("costs", "Cost against quality", "Metric")
MS = "Milliseconds an image, with the trace"
LOW = "95 % interval from"


def draw_costs(run: RunFolder) -> Iterator[Figure]:
    """One figure for each metric with a direction; none where run time wasn't measured."""
    times = {setting: milliseconds(run, setting) for setting in run.settings}
    costs = {
        setting: ms.drop(TRACE) + ms[TRACE]
        for setting, ms in times.items()
        if TRACE in ms and len(ms) > 2
    }
    rows = leading(run.summary)
    rows = rows[(rows["method"] != METHOD_FREE) & (rows["n"] > 0)]
    for value in map(run.metadata.value, metrics_in_order(run, set(rows["metric"]))):
        selected = rows[rows["metric"] == value.name]
        settings, same = drawing.told_apart(run, value.name)
        tables = {
            run.label(at): _costs_of(run, value, rows_at(selected, at), costs[at])
            for at in settings
            if at in costs
        }
        tables = {label: table for label, table in tables.items() if len(table)}
        if not value.has_direction or not tables:
            continue
        frame = drawing.by_network(tables)
        caption = (
            "Cost: run time of trace and method together, measured apart from the run. Quality: "
            f"the {value.lead} with "
            f"its 95 % interval, by image. {counts_text(frame['Images'], frame['Rows'])} a point. {same}".rstrip()
        )
        plot, title = partial(_plot_costs, run, value, tables), f"{value.title} and cost"
        yield Figure(
            f"cost_{value.name}", title, caption, plot, chart=COSTS, label=value.title, frame=frame
        )


def _costs_of(run: RunFolder, value: Value, rows: pd.DataFrame, ms: pd.Series) -> pd.DataFrame:
    """A row for each method. ms: by method."""
    rows = rows[rows["method"].isin(ms.index)].set_index("method")
    titles = [run.metadata.method_title(name) for name in rows.index]
    low, high = (rows[f"{value.lead}_{end}"].fillna(rows[value.lead]) for end in ("low", "high"))
    points: dict[str, Any] = {
        "Method": titles,
        MS: ms.reindex(rows.index).astype(float),
        "Value": rows[value.lead],
    }
    counts = {"Rows": rows["n"], "Images": rows["images"]}
    also = {"Also here": at_same_spot(titles, points[MS], points["Value"])}
    return pd.DataFrame({**points, LOW: low, "to": high, **counts, **also})


def _plot_costs(run: RunFolder, value: Value, tables: Mapping[str, pd.DataFrame]) -> Canvas:
    titles = [style.title for style in method_styles(run).values()]
    figure = drawing.side_by_side(
        {label: partial(_fill_costs, run, table) for label, table in tables.items()}, titles
    )
    figure.supxlabel(MS)
    figure.supylabel(
        drawing.wrapped(axis_title(value, value.lead.capitalize()), int(PANEL / LETTER))
    )
    return figure


def _fill_costs(run: RunFolder, table: pd.DataFrame, axes: Any) -> None:
    """Time is logarithmic; the values are beyond the smallest where they spread wide."""
    styles = method_styles(run)
    for method, row in table.iterrows():
        style = styles[str(method)]
        axes.plot(
            [row[MS], row[MS]], [row[LOW], row["to"]], color=style.colour, label="_bar", linewidth=1
        )
        look = {"color": style.colour, "label": style.title, "linewidth": 1, "markersize": 4.5}
        axes.plot(row[MS], row["Value"], style.marker, **look)
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
