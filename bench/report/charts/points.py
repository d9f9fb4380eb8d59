"""Draw charts with a point per method: the axiom plane, and run time against quality.

The axiom plane shows both axiom errors of the methods on the score's scale. Of each metric it shows
the statistic with which tables begin.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from axiom_bench.columns import OK
from axiom_bench.records.by_metric import count_images
from axiom_bench.report.charts import drawing
from axiom_bench.report.charts.drawing import Chart, Figure, LeftOut
from axiom_bench.report.charts.styles import (
    MethodStyle,
    axis_title,
    method_styles,
    metrics_in_order,
    titles_at_same_spot,
)
from axiom_bench.report.options import options_of
from axiom_bench.statistics.labels import Setting, Value, confidence, counts_text, number, rows_at
from axiom_bench.statistics.run_folder import METHOD_FREE, TRACE, RunFolder, milliseconds
from axiom_bench.statistics.summary import leading_rows

PLANE = Chart("axiom-plane", "Axiom plane", "")
ROW = ["image_id", "target_class"]


class Plane(NamedTuple):
    """The points of an axiom plane.

    Attributes:
        points: A row per method, with the columns x and y. They are the statistics with which
            tables begin, over the rows for which every drawn method has both values.
        images: The number of images of these rows.
        rows: The number of these rows.
        all_rows: The number of all rows of the setting.
    """

    points: pd.DataFrame
    images: int
    rows: int
    all_rows: int


def axiom_plane(run: RunFolder, setting: Setting, errors: Sequence[str]) -> Plane | None:
    """Return the methods on the score's scale by two errors.

    Args:
        run: The run.
        setting: The setting.
        errors: The metrics of the axes x and y.

    Returns:
        The points; None if no row has both errors of every such method.
    """
    x, y = errors
    rows = rows_at(run.records.rows([x, y]), setting)
    # pandas can't look up categories in a pair of columns
    rows = rows[rows["status"] == OK].astype({"image_id": str})
    on_scale = [
        name for name in rows["method"].cat.categories if run.metadata.method(name).on_score_scale
    ]
    values = rows[rows["method"].isin(on_scale)]
    table = values.pivot_table(
        index=ROW, columns=["method", "metric"], values="value", observed=True
    )
    columns = []
    for name in on_scale:
        if (name, x) in table.columns and (name, y) in table.columns:
            columns += [(name, x), (name, y)]
    table = table[columns].dropna()
    if table.empty:
        return None
    points = {
        name: table.xs(name, axis=1, level="metric").agg(run.metadata.value(name).lead)
        for name in errors
    }
    images = count_images(table.index.get_level_values("image_id"))
    return Plane(pd.DataFrame(points), images, len(table), len(run.layouts[setting].images))


MOST_PANEL = 2.8  # inches: the maximum width of a panel


def draw_plane(run: RunFolder) -> Iterator[Figure | LeftOut]:
    """Yield a figure with a panel for each setting in which methods have both errors."""
    errors = options_of(run).figures.plane
    if not errors:
        reason = "No two errors are chosen: report.figures.plane=[METRIC,METRIC]."
        yield LeftOut(PLANE.title, reason)
        return
    settings, note_on_others = drawing.settings_that_differ(run, *errors)
    planes = {}
    for setting in settings:
        plane = axiom_plane(run, setting, errors)
        if plane is not None:
            planes[run.label(setting)] = plane
    if not planes:
        reason = f"No method on the score's scale has values of both {' and '.join(errors)}"
        if missing := [name for name in errors if name not in run.metrics]:
            reason += f"; add metric=[...,{','.join(missing)}]"
        # if all methods coincide everywhere, no value is missing
        yield LeftOut(PLANE.title, note_on_others or f"{reason}.")
        return
    counts = ", ".join(
        f"{label} {plane.images:,} images, {plane.rows:,} of {plane.all_rows:,} rows"
        for label, plane in planes.items()
    )
    caption = (
        "Each method on the score's scale, over the rows where all of them have both errors "
        f"({counts}). Methods on one spot are rings around it. {note_on_others}"
    )
    values = [run.metadata.value(name) for name in errors]
    axis_titles = [axis_title(value, value.lead.capitalize()) for value in values]
    frames = {label: _plane_frame(run, plane, axis_titles) for label, plane in planes.items()}
    yield Figure(
        name="axiom_plane",
        title=PLANE.title,
        caption=caption.rstrip(),
        plot=partial(_plot_plane, run, planes, axis_titles),
        chart=PLANE,
        frame=drawing.join_frames(frames),
    )


def _plane_frame(run: RunFolder, plane: Plane, axis_titles: Sequence[str]) -> pd.DataFrame:
    """Return the table of a plane's points."""
    methods = [run.metadata.method_title(name) for name in plane.points.index]
    values = dict(zip(axis_titles, plane.points.to_numpy().T, strict=True))
    same_spot = titles_at_same_spot(methods, *values.values())
    return pd.DataFrame({"Method": methods, **values, "Also here": same_spot})


def _plot_plane(run: RunFolder, planes: Mapping[str, Plane], axis_titles: Sequence[str]) -> Canvas:
    """Draw a panel per plane."""
    styles = method_styles(run)
    panels = {label: partial(_fill_plane, plane, styles) for label, plane in planes.items()}
    titles = [style.title for style in styles.values()]
    figure = drawing.side_by_side(panels, titles, square=MOST_PANEL)
    figure.supxlabel(axis_titles[0])
    drawing.label_y(figure, axis_titles[1])
    for handle in figure.legends[0].legend_handles:
        if isinstance(handle, Line2D):
            handle.set_markersize(5)
    return figure


def _fill_plane(plane: Plane, styles: Mapping[str, MethodStyle], axes: Axes) -> None:
    """Draw the points of a plane."""
    # Methods that tie in theory lie on one spot. Each later one is a wider ring around the first.
    points_at: Counter[tuple[str, ...]] = Counter()
    for method, (x, y) in zip(plane.points.index, plane.points.to_numpy(), strict=True):
        spot = (number(x), number(y))
        style = styles[method]
        axes.plot(
            x,
            y,
            label=style.title,
            linestyle="none",
            zorder=4,
            clip_on=False,
            marker=style.marker,
            markersize=5 + 4 * points_at[spot],
            markeredgecolor=style.colour,
            markerfacecolor="none" if points_at[spot] else style.colour,
            markeredgewidth=1.2,
        )
        points_at[spot] += 1
    for axis_name, values in zip("xy", plane.points.to_numpy().T, strict=True):
        drawing.spread_axis(axes, axis_name, values, from_zero=True)


COSTS = Chart("costs", "Cost against quality", "Metric")
MS = "Milliseconds per image, without the shared trace"


def interval_column(run: RunFolder) -> str:
    """Return the title of the column with the lower end of the intervals."""
    return f"{confidence(run.level)} interval from"


def draw_costs(run: RunFolder) -> Iterator[Figure]:
    """Yield a figure for each metric with a direction, if run time was measured."""
    costs = {}
    traces = {}
    for setting in run.settings:
        ms = milliseconds(run, setting)
        own = ms.drop(TRACE, errors="ignore")
        own = own[own > 0]  # the axis of time is logarithmic
        if len(own) > 1:  # a chart compares at least two methods
            costs[setting] = own
            traces[setting] = ms.get(TRACE)
    rows = leading_rows(run.summary)
    rows = rows[(rows["method"] != METHOD_FREE) & (rows["n"] > 0)]
    names = drawing.most_comparable_first(run, metrics_in_order(run, set(rows["metric"])))
    for value in map(run.metadata.value, names):
        metric_rows = rows[rows["metric"] == value.name]
        settings, note_on_others = drawing.settings_that_differ(run, value.name)
        tables = {}
        for setting in settings:
            if setting in costs:
                setting_rows = rows_at(metric_rows, setting)
                table = _costs_frame(run, value, setting_rows, costs[setting])
                if len(table):
                    tables[run.label(setting)] = table
        if not value.has_direction or not tables:
            continue
        frame = drawing.join_frames(tables)
        counts = counts_text(frame["Images"], frame["Rows"])
        caption = (
            f"Cost: the method's own part of the run time. {_trace_sentence(run, traces, tables)} "
            f"Quality: the {value.lead} with its {confidence(run.level)} interval, by image. "
            f"{counts} per point. {note_on_others}"
        )
        yield Figure(
            name=f"cost_{value.name}",
            title=f"{value.title} and cost",
            caption=caption.rstrip(),
            plot=partial(_plot_costs, run, value, tables),
            chart=COSTS,
            label=value.title,
            frame=frame,
        )


def _trace_sentence(
    run: RunFolder, traces: Mapping[Setting, float | None], labels: Collection[str]
) -> str:
    """Return how long the trace takes that all methods share, in the settings with these labels."""
    times = []
    for setting, ms in traces.items():
        label = run.label(setting)
        if ms is not None and label in labels:
            place = f" on {label}" if len(labels) > 1 else ""
            times.append(f"{number(ms)} ms{place}")
    if not times:
        return "The trace, which all methods share, isn't in it."
    return f"The trace, which all methods share, takes another {', '.join(times)} per image."


def _costs_frame(run: RunFolder, value: Value, rows: pd.DataFrame, ms: pd.Series) -> pd.DataFrame:
    """Return a table with a row per method. `ms` has the run time of each method."""
    rows = rows[rows["method"].isin(ms.index)].set_index("method")
    titles = [run.metadata.method_title(name) for name in rows.index]
    lead = rows[value.lead]
    ms = ms.reindex(rows.index).astype(float)
    columns = {
        "Method": titles,
        MS: ms,
        "Value": lead,
        interval_column(run): rows[f"{value.lead}_low"].fillna(lead),
        "to": rows[f"{value.lead}_high"].fillna(lead),
        "Rows": rows["n"],
        "Images": rows["images"],
        "Also here": titles_at_same_spot(titles, ms, lead),
    }
    return pd.DataFrame(columns)


def _plot_costs(run: RunFolder, value: Value, tables: Mapping[str, pd.DataFrame]) -> Canvas:
    """Draw a panel per table."""
    titles = [style.title for style in method_styles(run).values()]
    panels = {label: partial(_fill_costs, run, table) for label, table in tables.items()}
    figure = drawing.side_by_side(panels, titles)
    figure.supxlabel(MS)
    drawing.label_y(figure, axis_title(value, value.lead.capitalize()))
    return figure


def _fill_costs(run: RunFolder, table: pd.DataFrame, axes: Axes) -> None:
    """Draw the points of a table, with time on a logarithmic axis (see `drawing.spread_axis` for
    the other).
    """
    styles = method_styles(run)
    for method, row in table.iterrows():
        style = styles[str(method)]
        colour = style.colour
        ms = row[MS]
        ends = [row[interval_column(run)], row["to"]]
        axes.plot([ms, ms], ends, color=colour, label="_bar", linewidth=1)
        axes.plot(
            ms,
            row["Value"],
            style.marker,
            color=colour,
            label=style.title,
            linewidth=1,
            markersize=4.5,
        )
    low = table[MS].min() / 1.5
    high = table[MS].max() * 1.5
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    powers = 10.0 ** np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
    steps: tuple[float, ...] = (1,)  # the wider the axis, the fewer ticks of each power of ten
    if high < 10 * low:
        steps = (1, 1.5, 2, 3, 5, 7)
    elif high < 50 * low:
        steps = (1, 2, 5)
    ticks = np.outer(powers, steps).ravel()
    ticks = ticks[(ticks >= low) & (ticks <= high)]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
    columns = [interval_column(run), "Value", "to"]
    drawing.spread_axis(axes, "y", table[columns].to_numpy().ravel())
