"""The `layers` experiment: the axiom errors against depth, of the layers themselves and of every method."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import LogLocator

from axiom_bench.columns import OK
from axiom_bench.report.charts import drawing
from axiom_bench.report.charts.drawing import SMALL, Chart, Figure, LeftOut, counts_by, hover, not_measured
from axiom_bench.report.charts.styles import COLOURS, MARKERS, MethodStyle, axis_title, method_styles
from axiom_bench.report.charts.svg import mark
from axiom_bench.report.options import PAGE, options_of
from axiom_bench.statistics.labels import FLOAT32_ROUNDING
from axiom_bench.statistics.run_folder import METHOD_FREE, RunFolder

TITLE = "Axiom errors by depth"
ORDER = "Layers in the order in which the network runs them"
SPREAD = 30.0  # of the largest to the smallest median: from here on a linear axis hides the small ones
PLACE = ["model", "data", "layer"]
Place = tuple[str, str]  # a model and a data set


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


def _low_end(medians: np.ndarray, drawn: np.ndarray | None = None) -> float | None:
    """The low end of a logarithmic axis, a little below all that isn't rounding; None for a linear axis. drawn: what
    the axis shows besides the medians."""
    bulk = medians[medians >= FLOAT32_ROUNDING]
    if (medians < 0).any() or not len(bulk) or bulk.max() <= SPREAD * bulk.min():
        return None
    shown = bulk if drawn is None else drawn[drawn >= FLOAT32_ROUNDING]
    return float(max(shown.min() / 3, FLOAT32_ROUNDING))


PANEL = 3.3  # inches: the width of a panel
LINE = 0.13  # inches: the height of a line of a legend
CHART = Chart("by-depth", TITLE, "Error")
NUMBERS = {"median": "Median", "q1": "Lower quartile", "q3": "Upper quartile", "n": "Rows", "images": "Images"}


class Line(NamedTuple):
    """methods: those that it is of, none for a metric of the layers. points: a row for each layer with the columns of
    NUMBERS, NaN where nothing was measured."""

    style: MethodStyle
    methods: list[str]
    points: pd.DataFrame


Lines = dict[Place, list[Line]]


def draw(run: RunFolder) -> Iterator[Figure | LeftOut]:
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
        yield _figure("by_depth", TITLE, "Error [ratio]", lines, free, bands=True)
    for name in options_of(run).figures.plane:
        selected = _defined(run, [name])
        selected = selected[selected["method"] != METHOD_FREE]
        if len(selected):
            value = run.metadata.value(name)
            lines = {place: _of_methods(run, _at(selected, place), layers) for place, layers in deep.items()}
            title, label = f"{value.title} by depth", axis_title(value, "Median")
            yield _figure(f"by_depth_{name}", title, label, lines, selected, bands=False)


def _at(rows: pd.DataFrame, place: Place) -> pd.DataFrame:
    return rows[(rows["model"] == place[0]) & (rows["data"] == place[1])]


def _of_metrics(run: RunFolder, rows: pd.DataFrame, layers: Sequence[str]) -> list[Line]:
    names = [name for name in options_of(run).figures.by_depth if (rows["metric"] == name).any()]
    looks = zip(names, COLOURS, MARKERS, strict=False)
    styles = [MethodStyle(run.metadata.value(name).title, colour, marker, (1, 0)) for name, colour, marker in looks]
    points = (_points(rows[rows["metric"] == name], layers) for name in names)
    return [Line(style, [], each) for style, each in zip(styles, points, strict=False)]


def _of_methods(run: RunFolder, rows: pd.DataFrame, layers: Sequence[str]) -> list[Line]:
    """Methods whose medians are the same at every layer, but for rounding, share a line."""
    lines: list[Line] = []
    for method, style in method_styles(run).items():
        selected = rows[rows["method"] == method]
        if selected.empty:
            continue
        points = _points(selected, layers)
        for i, other in enumerate(lines):
            first, second = other.points["median"], points["median"]
            if np.allclose(first, second, rtol=1e-5, atol=FLOAT32_ROUNDING, equal_nan=True):
                shared = replace(other.style, title=f"{other.style.title} = {style.title}")
                lines[i] = Line(shared, [*other.methods, method], other.points)
                break
        else:
            lines.append(Line(style, [method], points))
    return lines


def _points(rows: pd.DataFrame, layers: Sequence[str]) -> pd.DataFrame:
    groups = rows.groupby("layer", observed=True)
    table = groups["value"].quantile(np.array([0.25, 0.5, 0.75])).unstack().set_axis(["q1", "median", "q3"], axis=1)
    table = table.join(groups["value"].agg(n="size")).join(groups["image_id"].agg(images="nunique"))
    return table.set_axis(table.index.astype(str)).reindex(list(layers))


def _figure(name: str, title: str, label: str, lines: Lines, rows: pd.DataFrame, bands: bool) -> Figure:
    clipped = any(_is_clipped(line, _low_end_of(panel, bands)).any() for panel in lines.values() for line in panel)
    statistics = "medians, and the band between the quartiles" if bands else "medians"
    rounding = " Open triangles: medians below 1e-6, which is rounding, on the axis's low end." if clipped else ""
    caption = f"{ORDER}; {statistics}. {counts_by(rows, [*PLACE, 'metric', 'method'])} a median.{rounding}"
    plot, frame = partial(_plot, label, lines, bands), partial(_frame, lines)
    return Figure(name, title, caption, plot, chart=CHART, label=title, frame=frame)


def _frame(lines: Lines) -> pd.DataFrame:
    parts = [_rows(line).assign(Network=_label(place, lines)) for place, panel in lines.items() for line in panel]
    table = pd.concat(parts, ignore_index=True)
    return table[["Network", *table.columns.drop("Network")]] if len(lines) > 1 else table.drop(columns="Network")


def _rows(line: Line) -> pd.DataFrame:
    """Where it was measured."""
    table = line.points.dropna().astype({"n": int, "images": int}).rename(columns=NUMBERS)[list(NUMBERS.values())]
    return table.rename_axis("Layer").reset_index().assign(Name=line.style.title)[["Name", "Layer", *NUMBERS.values()]]


def _plot(label: str, lines: Lines, bands: bool) -> Canvas:
    per_row = drawing.across(len(lines), PAGE, PANEL, PANEL)
    inches = min(PANEL, PAGE / per_row)
    letters = int(inches / 0.075)
    labels = {place: [drawing.wrapped(line.style.title, letters) for line in panel] for place, panel in lines.items()}
    legend = LINE * max(sum(1 + label.count("\n") for label in panel) for panel in labels.values())
    figure = drawing.canvas(inches * per_row, (2.2 + legend) * -(-len(lines) // per_row))
    for axes, (place, panel) in zip(drawing.panels(figure, len(lines), per_row), lines.items(), strict=True):
        _panel(axes, panel, bands)
        axes.set(ylabel=drawing.wrapped(label, 40))
        axes.legend(labels[place], loc="upper left", bbox_to_anchor=(-0.1, -0.32), borderaxespad=0)
        drawing.set_title(axes, _label(place, lines), inches)
    return figure


def _panel(axes: Any, lines: list[Line], bands: bool) -> None:
    low, layers = _low_end_of(lines, bands), list(lines[0].points.index)
    places = np.arange(len(layers))
    drawn = [line.points if low is None else line.points.clip(lower=low) for line in lines]
    for line, points in zip(lines, drawn, strict=True):  # first, so that the legend is theirs
        look = {"color": line.style.colour, "linestyle": line.style.linestyle, "marker": line.style.marker}
        (artist,) = axes.plot(places, points["median"], **look)
        mark(artist, [line.methods] if line.methods else (), hover(_rows(line)))
    for line, points in zip(lines, drawn, strict=True):
        if bands:
            axes.fill_between(places, points["q1"], points["q3"], color=line.style.colour, alpha=0.2, linewidth=0)
        below = _is_clipped(line, low)
        look = {"color": line.style.colour, "markerfacecolor": "white", "markersize": 6}
        (artist,) = axes.plot(places[below], points["median"][below], "v", **look)
        mark(artist, [line.methods] if line.methods else ())
    if low is not None:
        axes.set_yscale("log")
        axes.set_ylim(bottom=low / 1.3)
        axes.yaxis.set_major_locator(LogLocator(numticks=7))
    elif not any((line.points["median"] < 0).any() for line in lines):
        top = axes.get_ylim()[1]
        axes.set_ylim(-0.03 * top, top)  # a marker at 0 is seen whole
    axes.set_xticks(places, layers, rotation=40, ha="right", rotation_mode="anchor", fontsize=SMALL)


def _is_clipped(line: Line, low: float | None) -> np.ndarray:
    """Which of the line's medians lie below the low end of a logarithmic axis: (layers,) bool."""
    return (line.points["median"].to_numpy() < FLOAT32_ROUNDING) & (low is not None)


def _low_end_of(lines: list[Line], bands: bool) -> float | None:
    points = pd.concat([line.points for line in lines])
    return _low_end(points["median"].to_numpy(), points["q1"].to_numpy() if bands else None)
