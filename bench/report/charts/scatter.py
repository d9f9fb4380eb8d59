"""Methods as points: the axiom plane (mean sensitivity against mean conservation error), and cost against quality."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache, partial
from typing import Any, NamedTuple

import altair as alt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from axiom_bench.columns import OK
from axiom_bench.report.charts import vega
from axiom_bench.report.charts.drawing import Drawing, LeftOut, across, canvas, legend, panels, set_title
from axiom_bench.report.charts.vega import Chart, Choice, MethodStyle, Panel, columns, method_styles
from axiom_bench.report.options import COLUMN, options_of
from axiom_bench.statistics.bootstrap import Floats
from axiom_bench.statistics.labels import FLOAT32_ROUNDING, Setting, Value, counts_text, number, rows_at
from axiom_bench.statistics.run_folder import METHOD_FREE, TRACE, RunFolder, milliseconds
from axiom_bench.statistics.summary import leading

TITLE = "Axiom plane"
CORNERS, PRINTED_CORNERS = 200, 1000  # of the floor that are drawn: on the page, and in a file
SIZE = 80  # square pixels of a point
HEIGHT = 320


ROW = ["image_id", "target_class"]


class Plane(NamedTuple):
    """points: method -> (mean x, mean y), over the rows where every drawn method has both values. images: how many
    images these `rows` are of; all_rows: rows of the setting."""

    points: pd.DataFrame
    floor: tuple[Floats, Floats] | None
    images: int
    rows: int
    all_rows: int


def axiom_plane(run: RunFolder, setting: Setting, errors: Sequence[str], floor: Sequence[str]) -> Plane | None:
    """The methods on the score's scale by two errors; None where no row has both of every such method.

    errors: the metrics of the axes x and y; without any there is no plane. floor: the metrics of the floor's two
    coordinates, of the same rows; a plane has no floor where a row has none, or none is chosen.
    """
    if not errors:
        return None
    x, y = errors
    rows = rows_at(run.records.rows([x, y, *floor]), setting)
    rows = rows[rows["status"] == OK].astype({"image_id": str})  # pandas can't look up categories in a pair of columns
    on_scale = [name for name in rows["method"].cat.categories if run.metadata.method(name).get("on_score_scale")]
    values = rows[rows["metric"].isin([x, y]) & rows["method"].isin(on_scale)]
    table = values.pivot_table(index=ROW, columns=["method", "metric"], values="value", observed=True)
    both = [name for name in on_scale if (name, x) in table.columns and (name, y) in table.columns]
    table = table[[(name, metric) for name in both for metric in (x, y)]].dropna()
    if table.empty:
        return None
    free = rows[(rows["method"] == METHOD_FREE) & rows["metric"].isin(floor)]
    gaps = free.pivot_table(index=ROW, columns="metric", values="value", observed=True).reindex(table.index).dropna()
    corners = None
    if floor and len(gaps) == len(table) and set(floor) <= set(gaps.columns):
        corners = floor_of_means(*(gaps[name].to_numpy(float) for name in floor))
    means = table.mean().unstack().loc[both, [x, y]]
    images = table.index.get_level_values("image_id").nunique()
    all_rows = run.layouts[setting].images
    return Plane(means, corners, images, len(table), len(all_rows))


def floor_of_means(s0: Floats, c0: Floats) -> tuple[Floats, Floats]:
    """The corners (sensitivity, conservation), each (n + 1,), of the lowest means that n images can reach together.

    From (0, mean c0), where every image has its whole gap in conservation, an image that moves its gap to sensitivity
    adds the step (s0_i, -c0_i) / n. The steepest go first, and no step at all last. s0, c0: (n,), at least 0, both 0
    for an image without a gap.
    """
    slope = np.divide(c0, s0, out=np.where(c0 > 0, np.inf, 0.0), where=s0 > 0)  # sum |d_k| / |S|
    steepest = np.argsort(-slope, kind="stable")
    n = len(s0)
    sensitivity = np.concatenate([[0.0], np.cumsum(s0[steepest]) / n])
    conservation = c0.mean() - np.concatenate([[0.0], np.cumsum(c0[steepest]) / n])
    return sensitivity, conservation.clip(min=0)  # the last corner is 0 but for rounding


def chart(run: RunFolder) -> Chart | None:
    """A panel for each network; None where no method on the score's scale has both errors."""
    planes = _planes(run)
    if not planes:
        return None
    choice = Choice(TITLE, _caption(run, planes), [_panel(run, setting, plane) for setting, plane in planes.items()])
    return Chart("axiom-plane", TITLE, "", [choice], {"plane": partial(_spec, run)})


def _planes(run: RunFolder) -> dict[Setting, Plane]:
    """Of the settings where a method on the score's scale has both errors."""
    chosen = options_of(run).figures
    planes = {setting: axiom_plane(run, setting, chosen.plane, chosen.floor) for setting in run.settings}
    return {setting: plane for setting, plane in planes.items() if plane is not None}


def _caption(run: RunFolder, planes: Mapping[Setting, Plane]) -> str:
    counts = ", ".join(
        f"{run.label(setting)} {plane.images:,} images, {plane.rows:,} of {plane.all_rows:,} rows"
        for setting, plane in planes.items()
    )
    floor = "Without the axiom floor: its values aren't in this run for these images."
    if any(plane.floor is not None for plane in planes.values()):
        floor = "No method can lie below the axiom floor, the line."
    return (
        f"Each method on the score's scale: means over the rows where all of them have both errors ({counts}). "
        f"Methods on one spot are rings around it. {floor}"
    )


def _corners(floor: tuple[Floats, Floats], most: int) -> tuple[Floats, Floats]:
    """Of the floor's corners at most so many, evenly: one an image would fill a page."""
    drawn = np.unique(np.linspace(0, len(floor[0]) - 1, most).round().astype(int))
    return floor[0][drawn], floor[1][drawn]


def _panel(run: RunFolder, setting: Setting, plane: Plane) -> Panel:
    x, y = plane.points.to_numpy().T
    spots = pd.Series(list(zip(map(number, x), map(number, y), strict=True)))
    ring = spots.groupby(spots).cumcount()
    side = SIZE**0.5 + 6 * ring
    also = vega.at_same_spot([run.metadata.method_title(name) for name in plane.points.index], x, y)
    points = {"method": list(plane.points.index), "x": x, "y": y, "ring": ring, "size": side**2, "also": also}
    tables = {"points": columns(pd.DataFrame(points)), "floor": {"x": [], "y": []}}
    ends = (0.0, 0.0)
    if plane.floor is not None:
        tables["floor"] = columns(pd.DataFrame(dict(zip("xy", _corners(plane.floor, CORNERS), strict=True))))
        ends = (float(plane.floor[0].max()), float(plane.floor[1].max()))
    params = vega.symlog_params("x", np.append(x, ends[0]), from_zero=True)
    params |= vega.symlog_params("y", np.append(y, ends[1]), from_zero=True)
    label = run.label(setting)
    description = f"{TITLE} of {label}: each method by its two mean errors."
    return Panel(label, "plane", description, tables, HEIGHT, params)


def _spec(run: RunFolder) -> dict[str, Any]:
    names = dict(zip("xy", options_of(run).figures.plane, strict=True))
    titles = {axis: f"Mean {vega.small(vega.axis_title(run.metadata.value(name)))}" for axis, name in names.items()}
    x, y = (vega.symlog(kind, axis, axis, titles[axis]) for axis, kind in (("x", alt.X), ("y", alt.Y)))
    floor = alt.Chart(alt.NamedData("floor"))
    area = floor.mark_area(color=vega.SOFT, opacity=0.12, clip=True).encode(x, y)
    line = floor.mark_line(color=vega.SOFT, strokeWidth=2, clip=True).encode(x, y)
    points = alt.Chart(alt.NamedData("points")).transform_filter(vega.SHOWN)
    shape = alt.Shape("shape:N", scale=None)
    fill = alt.when("datum.ring > 0").then(alt.value("transparent")).otherwise(alt.Fill("colour:N", scale=None))
    marks = points.mark_point(strokeWidth=2, opacity=1).encode(
        x, y, shape, alt.Size("size:Q", scale=None), stroke=alt.Stroke("colour:N", scale=None), fill=fill
    )
    hover = {"points": {"title": "Method", **titles, "also": "Also here"}}
    params = [f"{axis}_{name}" for axis in "xy" for name in vega.SYMLOG]
    return vega.finished(alt.layer(area, line, marks), hover, params)


FLOOR = "axiom floor"
PANEL, MOST_PANEL = 1.9, 2.8  # inches: the width of a panel, and the most of it
LEGEND, ENTRY = 1.4, 0.2  # inches: the width of a legend beside the panels, the height of an entry
SMALLEST = 0.01  # the least that an axis shows: below lie methods that are exact but for rounding
SPREAD = 20.0  # of the points' largest to smallest coordinate: from here on a linear axis hides the small ones


def draw(run: RunFolder) -> Iterator[Drawing | LeftOut]:
    """A panel for each setting where a method on the score's scale has both errors."""
    if not options_of(run).figures.plane:
        yield LeftOut(TITLE, "No two errors are chosen: report.figures.plane=[METRIC,METRIC].")
        return
    x, y = options_of(run).figures.plane
    planes = _planes(run)
    if not planes:
        missing = [name for name in (x, y) if name not in run.metrics]
        add = f"; add metric=[...,{','.join(missing)}]" if missing else ""
        yield LeftOut(TITLE, f"No method on the score's scale has values of both {x} and {y}{add}.")
        return
    yield Drawing("axiom_plane", TITLE, _caption(run, planes), partial(_plot, run, planes))


def _plot(run: RunFolder, planes: Mapping[Setting, Plane], width: float) -> Figure:
    x, y = options_of(run).figures.plane
    room = width - LEGEND if width > COLUMN else width
    per_row = across(len(planes), room, PANEL, PANEL)
    side = min(MOST_PANEL, room / per_row)
    entries = 0 if width > COLUMN else ENTRY * (1 + len(method_styles(run)) // 2)
    figure = canvas(side * per_row + width - room, 0.95 * side * -(-len(planes) // per_row) + entries)
    for axes, (setting, plane) in zip(panels(figure, len(planes), per_row), planes.items(), strict=True):
        _draw_panel(axes, plane, method_styles(run))
        set_title(axes, run.label(setting), side)
    figure.supxlabel(f"{vega.axis_label(run.metadata.value(x))}, mean")
    figure.supylabel(f"{vega.axis_label(run.metadata.value(y))}, mean")
    titles = [style.title for style in method_styles(run).values()]
    for handle in legend(figure, [FLOOR, *titles], width).legend_handles:
        if isinstance(handle, Line2D):
            handle.set_markersize(5)
    return figure


def _draw_panel(axes: Any, plane: Plane, styles: Mapping[str, MethodStyle]) -> None:
    if plane.floor is not None:
        sensitivity, conservation = _corners(plane.floor, PRINTED_CORNERS)
        axes.plot(sensitivity, conservation, color="0.25", linewidth=1.4, label=FLOOR, zorder=2)
        axes.fill_between(sensitivity, conservation, color="0.5", alpha=0.15, linewidth=0, zorder=1)
    rings: dict[tuple[str, ...], int] = {}
    for method, (x, y) in zip(plane.points.index, plane.points.to_numpy(), strict=True):
        # Methods that tie in theory lie on one spot: each later one is a wider ring around the first.
        spot = (number(x), number(y))
        rings[spot] = ring = rings.get(spot, -1) + 1
        style = styles[method]
        look = {"marker": style.marker, "markersize": 5 + 4 * ring, "markeredgecolor": style.colour}
        look |= {"markerfacecolor": "none" if ring else style.colour, "markeredgewidth": 1.2}
        axes.plot(x, y, label=style.title, linestyle="none", zorder=4, clip_on=False, **look)
    ends = (0.0, 0.0) if plane.floor is None else (plane.floor[0].max(), plane.floor[1].max())
    for axis_name, points, end in zip("xy", plane.points.to_numpy().T, ends, strict=True):
        _scale(axes, axis_name, points, end)


def _scale(axes: Any, axis_name: str, points: Floats, end: float) -> None:
    """From 0 up, so that the floor's ends are seen; logarithmic beyond the smallest value where they spread wide."""
    values = [value for value in (*points, end) if value > FLOAT32_ROUNDING] or [SMALLEST]
    upper = max(1.15 * max(values), SMALLEST)
    if max(values) > SPREAD * min(values):
        getattr(axes, f"set_{axis_name}scale")("symlog", linthresh=max(min(values), upper / 1000))
    else:
        getattr(axes, f"{axis_name}axis").set_major_locator(MaxNLocator(nbins=4, steps=[1, 2, 5, 10]))
    getattr(axes, f"set_{axis_name}lim")(0, upper)


COSTS_HEIGHT = 300
MS = "milliseconds an image, with the trace"


def costs_chart(run: RunFolder) -> Chart | None:
    """A choice for each metric with a direction; None where run time wasn't measured."""
    costs = {setting: ms for setting in run.settings if len(ms := _costs(run, setting)) > 1}
    rows = leading(run.summary)
    rows = rows[(rows["method"] != METHOD_FREE) & (rows["n"] > 0)]
    values = [run.metadata.value(name) for name in vega.metrics_in_order(run, set(rows["metric"]))]
    measured = [value for value in values if value.has_direction]
    choices = [
        choice for value in measured if (choice := _cost_choice(run, value, rows[rows["metric"] == value.name], costs))
    ]
    return Chart("costs", "Cost against quality", "Metric", choices, {"costs": _costs_spec}) if choices else None


def _costs(run: RunFolder, setting: Setting) -> pd.Series:
    """ms an image of each method with its trace."""
    times = milliseconds(run, setting)
    return times.drop(TRACE) + times[TRACE] if TRACE in times else pd.Series(dtype=float)


def _cost_choice(run: RunFolder, value: Value, rows: pd.DataFrame, costs: dict[Setting, pd.Series]) -> Choice | None:
    tables = {setting: _cost_table(run, value, rows_at(rows, setting), ms) for setting, ms in costs.items()}
    tables = {setting: table for setting, table in tables.items() if len(table)}
    if not tables:
        return None
    title = f"{vega.capital(value.lead)} of {vega.small(vega.axis_title(value))}"
    panels = []
    for setting, table in tables.items():
        ends = table[["low", "value", "high"]].to_numpy().ravel()
        low, high = table["ms"].min() / 1.5, table["ms"].max() * 1.5
        params = {"title": title, "x_low": low, "x_high": high, "x_ticks": vega.log_ticks(low, high)}
        params |= vega.symlog_params("y", ends)
        label = run.label(setting)
        description = f"{value.title} of each method against its {MS}, {label}."
        panels.append(Panel(label, "costs", description, {"points": columns(table)}, COSTS_HEIGHT, params))
    everything = pd.concat(tables.values())
    counts = counts_text(everything["images"], everything["n"])
    caption = (
        f"Cost: run time of trace and method together, measured apart from the run. Quality: the {value.lead} with its "
        f"95 % interval, by image. {counts} a point."
    )
    return Choice(value.title, caption, panels)


def _cost_table(run: RunFolder, value: Value, rows: pd.DataFrame, ms: pd.Series) -> pd.DataFrame:
    rows = rows[rows["method"].isin(ms.index)]
    ends = {end: rows[f"{value.lead}_{end}"].fillna(rows[value.lead]) for end in ("low", "high")}
    table = pd.DataFrame({"method": rows["method"], "ms": rows["method"].map(ms), "value": rows[value.lead], **ends})
    titles = [run.metadata.method_title(name) for name in table["method"]]
    return table.assign(also=vega.at_same_spot(titles, table["ms"], table["value"]), n=rows["n"], images=rows["images"])


@cache
def _costs_spec() -> dict[str, Any]:
    domain = [alt.ExprRef("x_low"), alt.ExprRef("x_high")]
    x_axis = alt.Axis(title=vega.capital(MS), values=alt.ExprRef("x_ticks"), labelExpr=vega.LABEL)
    x = alt.X("ms:Q", scale=alt.Scale(type="log", domain=domain, nice=False), axis=x_axis)
    data = alt.Chart(alt.NamedData("points")).transform_filter(vega.SHOWN)
    colour = {"color": alt.Color("colour:N", scale=None)}
    bar = data.mark_rule(strokeWidth=1.5, clip=True)
    point = data.mark_point(size=70, strokeWidth=2, filled=True, opacity=1)
    look_of_point = colour | {"stroke": alt.Stroke("colour:N", scale=None), "shape": alt.Shape("shape:N", scale=None)}
    bar = bar.encode(x, vega.symlog(alt.Y, "y", "low"), alt.Y2("high"), **colour)
    point = point.encode(x, vega.symlog(alt.Y, "y", "value"), **look_of_point)
    hover = {"title": "Method", "ms": vega.capital(MS), "value": "Value", "low": "95 % interval from", "high": "to",
             "n": "Rows", "images": "Images", "also": "Also here"}  # fmt: skip
    title = alt.TitleParams(alt.ExprRef("title"), orient="left", anchor="middle")
    params = ("title", "x_low", "x_high", "x_ticks", *(f"y_{name}" for name in vega.SYMLOG))
    return vega.finished(alt.layer(bar, point, title=title), {"points": hover}, params)
