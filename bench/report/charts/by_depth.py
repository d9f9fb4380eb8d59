"""The `layers` experiment: the axiom errors against depth, of the layers themselves and of every method."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from functools import cache, partial
from typing import Any, NamedTuple

import altair as alt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from axiom_bench.columns import OK
from axiom_bench.report.charts import drawing, vega
from axiom_bench.report.charts.drawing import SMALL, Drawing, LeftOut, counts_by, not_measured
from axiom_bench.report.charts.vega import COLOURS, MARKERS, Chart, Choice, MethodStyle, Panel, at_same_spot, columns
from axiom_bench.report.options import options_of
from axiom_bench.statistics.labels import FLOAT32_ROUNDING
from axiom_bench.statistics.run_folder import METHOD_FREE, RunFolder

TITLE = "Axiom errors by depth"
ORDER = "Layers in the order in which the network runs them"
HEIGHT = 300
AXIS, LETTER, LETTERS = 50, 4, 26  # pixels below the plot: without names of layers, of a letter, and letters at most
SPREAD = 30.0  # of the largest to the smallest median: from here on a linear axis hides the small ones
SPECS = {False: "by-depth", True: "by-depth-log"}
HOVER = {"title": "Name", "layer": "Layer", "median": "Median", "q1": "Lower quartile", "q3": "Upper quartile",
         "n": "Rows", "images": "Images", "also": "Also here"}  # fmt: skip
PLACE = ["model", "data", "layer"]
Place = tuple[str, str]  # a model and a data set


def chart(run: RunFolder) -> Chart | None:
    """A choice for each error of `config.report.figures.by_depth` and `plane`, a panel for each model and data set with
    several layers; None where none has several."""
    deep = _deep(run)
    if not deep:
        return None
    errors = dict.fromkeys((*options_of(run).figures.by_depth, *options_of(run).figures.plane))
    rows = _defined(run, errors)
    rows = rows[[place in deep for place in zip(rows["model"], rows["data"], strict=True)]]
    measured = set(rows["metric"].unique())
    choices = [_choice(run, name, rows[rows["metric"] == name], deep) for name in errors if name in measured]
    specs = {name: partial(_spec, log) for log, name in SPECS.items()}
    return Chart("by-depth", TITLE, "Error", choices, specs) if choices else None


def _deep(run: RunFolder) -> dict[Place, list[str]]:
    """The layers of each model and data set with several."""
    layers: dict[Place, list[str]] = {}
    for setting in run.settings:
        layers.setdefault((setting.model, setting.data), []).append(setting.layer)
    return {place: names for place, names in layers.items() if len(names) > 1}


def _label(place: Place, places: Collection[Place]) -> str:
    """The model; with the data set where there are several."""
    return place[0] if len({data for _, data in places}) == 1 else f"{place[0]} ({place[1]})"


def _defined(run: RunFolder, metrics: Collection[str]) -> pd.DataFrame:
    """The rows of single images with a value of these metrics."""
    rows = run.records.rows(metrics)
    return rows[rows["status"] == OK]


def _choice(run: RunFolder, name: str, rows: pd.DataFrame, deep: dict[Place, list[str]]) -> Choice:
    value, table = run.metadata.value(name), _table(rows)
    low_end = _low_end(table["median"].to_numpy())
    log, least = low_end is not None, float(table["median"].min()) if low_end is None else low_end
    is_free = bool(table["method"].eq(METHOD_FREE).all())  # with a band, which many methods' would hide
    drawn = table[["q1", "q3"] if is_free else ["median"]].clip(lower=least).to_numpy()
    low = float(drawn.min()) if log else min(float(drawn.min()), 0.0)
    params = {**vega.limits(low, float(drawn.max()), log), "least": least}
    params |= {"title": f"Median {vega.small(vega.axis_title(value))}", "band": is_free}
    panels = []
    for place, layers in deep.items():
        if len(selected := _at(table, place)):
            label, tables = _label(place, deep), {"points": columns(_points(run, selected, layers, is_free))}
            description = f"{value.title} by depth, {label}."
            axis = AXIS + LETTER * min(LETTERS, max(map(len, layers)))  # names at an angle
            panels.append(Panel(label, SPECS[log], description, tables, HEIGHT, params | {"layers": layers}, axis=axis))
    statistics = "Medians, and the band between the quartiles." if is_free else "Medians."
    caption = f"{ORDER}. {statistics} {counts_by(rows, [*PLACE, 'method'])} a median."
    if log:
        caption += " Logarithmic axis."
        if table["median"].lt(least).any():
            caption += " Medians below its low end, which are rounding, are drawn there."
    return Choice(value.title, caption, panels)


def _table(rows: pd.DataFrame) -> pd.DataFrame:
    """A row for each layer of a model and data set, and each method: q1, median, q3 of a metric, n and images."""
    groups = rows.groupby([*PLACE, "method"], observed=True)
    table = groups["value"].quantile(np.array([0.25, 0.5, 0.75])).unstack().set_axis(["q1", "median", "q3"], axis=1)
    table = table.join(groups["value"].agg(n="size")).join(groups["image_id"].agg(images="nunique"))
    return table.reset_index().astype(dict.fromkeys([*PLACE, "method"], str))


def _points(run: RunFolder, table: pd.DataFrame, layers: list[str], is_free: bool) -> pd.DataFrame:
    table = table.assign(place=table["layer"].map(layers.index)).sort_values("place", kind="stable")
    titles = [run.metadata.method_title(name) for name in table["method"]]
    table = table.assign(also=at_same_spot(titles, table.pop("place"), table["median"])).drop(columns=["model", "data"])
    return table.drop(columns="method").assign(title="All methods") if is_free else table


def _low_end(medians: np.ndarray, drawn: np.ndarray | None = None) -> float | None:
    """The low end of a logarithmic axis, a little below all that isn't rounding; None for a linear axis. drawn: what
    the axis shows besides the medians."""
    bulk = medians[medians >= FLOAT32_ROUNDING]
    if (medians < 0).any() or not len(bulk) or bulk.max() <= SPREAD * bulk.min():
        return None
    shown = bulk if drawn is None else drawn[drawn >= FLOAT32_ROUNDING]
    return float(max(shown.min() / 3, FLOAT32_ROUNDING))


@cache
def _spec(log: bool) -> dict[str, Any]:
    x_axis = alt.Axis(title="Layer", labelAngle=-35, labelOverlap=True, grid=False)
    x = alt.X("layer:N", scale=alt.Scale(type="point", domain=alt.ExprRef("layers"), padding=0.3), axis=x_axis)

    def y(column: str) -> alt.Y:
        return alt.Y(f"{column}:Q", scale=vega.between_limits(log), axis=vega.axis())

    data = alt.Chart(alt.NamedData("points")).transform_filter(vega.SHOWN)
    for name in ("q1", "median", "q3"):
        data = data.transform_calculate(f"{name}_at", f"max(datum.{name}, least)")
    colour, group = alt.Color("colour:N", scale=None), alt.Detail("title:N")
    band = data.transform_filter("band").mark_area(opacity=0.2, clip=True)
    line = data.mark_line(strokeWidth=2)
    point = data.mark_point(size=60, filled=True, opacity=1)
    layers = (
        band.encode(x, y("q1_at"), alt.Y2("q3_at"), alt.Fill("colour:N", scale=None), group),
        line.encode(x, y("median_at"), colour, group, alt.StrokeDash("dash:N", scale=None)),
        point.encode(x, y("median_at"), colour, alt.Shape("shape:N", scale=None)),
    )
    title = alt.TitleParams(alt.ExprRef("title"), orient="left", anchor="middle")
    params = ("title", "least", "layers", "band", *vega.LIMITS)
    return vega.finished(alt.layer(*layers, title=title), {"points": HOVER}, params)


PANEL = 3.3  # inches: the width of a panel
LINE = 0.13  # inches: the height of a line of a legend
PLACES = ["model", "layer", "data", "metric", "method"]


class Line(NamedTuple):
    """quartiles: a row for each layer, NaN where nothing was measured, with the columns q1, median and q3."""

    style: MethodStyle
    quartiles: pd.DataFrame


Lines = dict[Place, list[Line]]


def draw(run: RunFolder) -> Iterator[Drawing | LeftOut]:
    """Two kinds of figures, a panel for each model and data set with several layers; nothing where none has several.

    The method-free errors of `config.report.figures.by_depth` together, with the band between the quartiles; and each
    of the errors of `plane`, a line for each method, one for methods that are the same at every layer.
    """
    deep = _deep(run)
    if not deep:
        return
    names = options_of(run).figures.by_depth
    free = _defined(run, names)
    free = free[free["method"] == METHOD_FREE]
    if free.empty:
        yield LeftOut(TITLE, " ".join(not_measured(run, name) for name in names) or "report.figures.by_depth is empty.")
    else:
        lines = {place: _of_metrics(run, _at(free, place), layers) for place, layers in deep.items()}
        yield _drawing("by_depth", TITLE, "error [ratio]", lines, deep, free, bands=True)
    for name in options_of(run).figures.plane:
        selected = _defined(run, [name])
        selected = selected[selected["method"] != METHOD_FREE]
        if len(selected):
            value = run.metadata.value(name)
            lines = {place: _of_methods(run, _at(selected, place), layers) for place, layers in deep.items()}
            title, ylabel = f"{value.title} by depth", vega.axis_label(value)
            yield _drawing(f"by_depth_{name}", title, ylabel, lines, deep, selected, bands=False)


def _at(rows: pd.DataFrame, place: Place) -> pd.DataFrame:
    return rows[(rows["model"] == place[0]) & (rows["data"] == place[1])]


def _of_metrics(run: RunFolder, rows: pd.DataFrame, layers: Sequence[str]) -> list[Line]:
    names = [name for name in options_of(run).figures.by_depth if (rows["metric"] == name).any()]
    styles = (
        MethodStyle(run.metadata.value(name).title, colour, marker, "", (1, 0))
        for name, colour, marker in zip(names, COLOURS, MARKERS, strict=False)
    )
    quartiles = (_quartiles(rows[rows["metric"] == name], layers) for name in names)
    return list(map(Line, styles, quartiles))


def _of_methods(run: RunFolder, rows: pd.DataFrame, layers: Sequence[str]) -> list[Line]:
    """Methods whose medians are the same at every layer, but for rounding, share a line."""
    lines: list[Line] = []
    for method, style in vega.method_styles(run).items():
        selected = rows[rows["method"] == method]
        if selected.empty:
            continue
        line = Line(style, _quartiles(selected, layers))
        for i, other in enumerate(lines):
            first, second = other.quartiles["median"], line.quartiles["median"]
            if np.allclose(first, second, rtol=1e-5, atol=FLOAT32_ROUNDING, equal_nan=True):
                lines[i] = Line(replace(other.style, title=f"{other.style.title} = {style.title}"), other.quartiles)
                break
        else:
            lines.append(line)
    return lines


def _quartiles(rows: pd.DataFrame, layers: Sequence[str]) -> pd.DataFrame:
    return _table(rows).set_index("layer")[["q1", "median", "q3"]].reindex(list(layers))


def _drawing(
    name: str, title: str, ylabel: str, lines: Lines, layers: dict[Place, list[str]], rows: pd.DataFrame, bands: bool
) -> Drawing:
    clipped = any(_is_clipped(line, _low_end_of(panel, bands)).any() for panel in lines.values() for line in panel)
    statistics = "medians, and the band between the quartiles" if bands else "medians"
    rounding = " Open triangles: medians below 1e-6, which is rounding, on the axis's low end." if clipped else ""
    caption = f"{ORDER}; {statistics}. {counts_by(rows, PLACES)} a median.{rounding}"
    return Drawing(name, title, caption, partial(_plot, ylabel, lines, layers, bands))


def _plot(ylabel: str, lines: Lines, layers: dict[Place, list[str]], bands: bool, width: float) -> Figure:
    per_row = drawing.across(len(layers), width, PANEL, PANEL)
    inches = min(PANEL, width / per_row)
    letters = int(inches / 0.075)
    labels = {place: [drawing.wrapped(line.style.title, letters) for line in panel] for place, panel in lines.items()}
    legend = LINE * max(sum(1 + label.count("\n") for label in panel) for panel in labels.values())
    figure = drawing.canvas(inches * per_row, (2.2 + legend) * -(-len(layers) // per_row))
    for axes, (place, panel) in zip(drawing.panels(figure, len(layers), per_row), lines.items(), strict=True):
        _panel(axes, panel, layers[place], bands)
        axes.set(ylabel=ylabel)
        axes.legend(labels[place], loc="upper left", bbox_to_anchor=(-0.1, -0.32), borderaxespad=0)
        drawing.set_title(axes, _label(place, layers), inches)
    return figure


def _panel(axes: Any, lines: list[Line], layers: Sequence[str], bands: bool) -> None:
    low = _low_end_of(lines, bands)
    places = np.arange(len(layers))
    drawn = [line.quartiles if low is None else line.quartiles.clip(lower=low) for line in lines]
    for line, quartiles in zip(lines, drawn, strict=True):  # first, so that the legend is theirs
        style = line.style
        axes.plot(places, quartiles["median"], color=style.colour, linestyle=style.linestyle, marker=style.marker)
    for line, quartiles in zip(lines, drawn, strict=True):
        if bands:
            axes.fill_between(places, quartiles["q1"], quartiles["q3"], color=line.style.colour, alpha=0.2, linewidth=0)
        below = _is_clipped(line, low)
        look = {"color": line.style.colour, "markerfacecolor": "white", "markersize": 6}
        axes.plot(places[below], quartiles["median"][below], "v", **look)
    if low is not None:
        axes.set_yscale("log")
        axes.set_ylim(bottom=low / 1.3)
        axes.yaxis.set_major_locator(LogLocator(numticks=7))
    elif not any((line.quartiles["median"] < 0).any() for line in lines):
        top = axes.get_ylim()[1]
        axes.set_ylim(-0.03 * top, top)  # a marker at 0 is seen whole
    axes.set_xticks(places, layers, rotation=40, ha="right", rotation_mode="anchor", fontsize=SMALL)


def _is_clipped(line: Line, low: float | None) -> np.ndarray:
    """Which of the line's medians lie below the low end of a logarithmic axis: (layers,) bool."""
    return (line.quartiles["median"].to_numpy() < FLOAT32_ROUNDING) & (low is not None)


def _low_end_of(lines: list[Line], bands: bool) -> float | None:
    quartiles = pd.concat([line.quartiles for line in lines])
    return _low_end(quartiles["median"].to_numpy(), quartiles["q1"].to_numpy() if bands else None)
