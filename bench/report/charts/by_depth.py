"""The `layers` experiment: the axiom errors against depth, of the layers themselves and of every method."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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
CHART = Chart("by-depth", TITLE, "Error")
SPREAD = 30.0  # of the largest to the smallest median: from here on a linear axis hides the small ones
PANEL = 3.3  # inches: the width of a panel
LINE = 0.13  # inches: the height of a line of a legend


class Line(NamedTuple):
    """methods: those that it is of, none for a metric of the layers. points: a row for each layer, with the columns
    Median, Lower quartile, Upper quartile, Rows and Images; NaN where nothing was measured."""

    style: MethodStyle
    methods: list[str]
    points: pd.DataFrame

    def rows(self) -> pd.DataFrame:
        """As a reader sees them."""
        table = self.points.dropna().astype({"Rows": int, "Images": int}).rename_axis("Layer").reset_index()
        return pd.DataFrame({"Name": self.style.title, **table})


Lines = Mapping[str, Sequence[Line]]  # by the title of their panel


def draw(run: RunFolder) -> Iterator[Figure | LeftOut]:
    """Two kinds of figures, a panel for each model and data set with several layers; nothing where none has several.

    The method-free errors of `config.report.figures.by_depth` together, with the band between the quartiles; and each
    of the errors of `plane`, a line for each method, one for methods that are the same at every layer.
    """
    layers: dict[tuple[str, str], list[str]] = {}
    for setting in run.settings:
        layers.setdefault((setting.model, setting.data), []).append(setting.layer)
    layers = {place: names for place, names in layers.items() if len(names) > 1}
    if not layers:
        return
    labels = {(model, data): model if len({of for _, of in layers}) == 1 else f"{model} ({data})"
              for model, data in layers}  # fmt: skip

    def at_places(rows: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame, list[str]]]:
        for (model, data), names in layers.items():
            yield labels[model, data], rows[(rows["model"] == model) & (rows["data"] == data)], names

    names = options_of(run).figures.by_depth
    free = run.records.rows(names)
    free = free[(free["status"] == OK) & (free["method"] == METHOD_FREE)]
    if free.empty:
        yield LeftOut(TITLE, " ".join(not_measured(run, name) for name in names) or "report.figures.by_depth is empty.")
    else:
        lines = {label: _of_metrics(run, rows, at) for label, rows, at in at_places(free)}
        yield _figure("by_depth", TITLE, "Error [ratio]", lines, free, bands=True)
    for name in options_of(run).figures.plane:
        rows = run.records.rows([name])
        rows = rows[(rows["status"] == OK) & (rows["method"] != METHOD_FREE)]
        if len(rows):
            value = run.metadata.value(name)
            lines = {label: _of_methods(run, own, at) for label, own, at in at_places(rows)}
            title, label = f"{value.title} by depth", axis_title(value, "Median")
            yield _figure(f"by_depth_{name}", title, label, lines, rows, bands=False)


def _of_metrics(run: RunFolder, rows: pd.DataFrame, layers: Sequence[str]) -> list[Line]:
    lines = []
    names = (name for name in options_of(run).figures.by_depth if (rows["metric"] == name).any())
    for name, colour, marker in zip(names, COLOURS, MARKERS, strict=False):
        style = MethodStyle(run.metadata.value(name).title, colour, marker, (1, 0))
        lines.append(Line(style, [], _points(rows[rows["metric"] == name], layers)))
    return lines


def _of_methods(run: RunFolder, rows: pd.DataFrame, layers: Sequence[str]) -> list[Line]:
    """Methods whose medians are the same at every layer, but for rounding, share a line."""
    lines: list[Line] = []
    for method, style in method_styles(run).items():
        selected = rows[rows["method"] == method]
        if selected.empty:
            continue
        points = _points(selected, layers)
        for i, (other, methods, own) in enumerate(lines):
            if np.allclose(own["Median"], points["Median"], rtol=1e-5, atol=FLOAT32_ROUNDING, equal_nan=True):
                lines[i] = Line(replace(other, title=f"{other.title} = {style.title}"), [*methods, method], own)
                break
        else:
            lines.append(Line(style, [method], points))
    return lines


def _points(rows: pd.DataFrame, layers: Sequence[str]) -> pd.DataFrame:
    groups = rows.groupby("layer", observed=True)
    shares = {"Median": 0.5, "Lower quartile": 0.25, "Upper quartile": 0.75}
    table = groups["value"].quantile(np.array(list(shares.values()))).unstack().set_axis(list(shares), axis=1)
    table = table.assign(Rows=groups.size(), Images=groups["image_id"].nunique())
    return table.set_axis(table.index.astype(str)).reindex(list(layers))


def _figure(name: str, title: str, label: str, lines: Lines, rows: pd.DataFrame, bands: bool) -> Figure:
    clipped = any(
        is_clipped(line.points, _low_end_of(panel, bands)).any() for panel in lines.values() for line in panel
    )
    statistics = "medians, and the band between the quartiles" if bands else "medians"
    rounding = " Open triangles: medians below 1e-6, which is rounding, on the axis's low end." if clipped else ""
    counts = counts_by(rows, ["model", "data", "layer", "metric", "method"])
    caption = f"{ORDER}; {statistics}. {counts} a median.{rounding}"
    frame = drawing.by_network({place: pd.concat([line.rows() for line in panel]) for place, panel in lines.items()})
    plot = partial(_plot, label, lines, bands)
    return Figure(name, title, caption, plot, chart=CHART, label=title, frame=frame.reset_index(drop=True))


def _plot(label: str, lines: Lines, bands: bool) -> Canvas:
    per_row = drawing.across(len(lines), PAGE, PANEL, PANEL)
    inches = min(PANEL, PAGE / per_row)
    labels = {at: [drawing.wrapped(line.style.title, int(inches / 0.075)) for line in lines[at]] for at in lines}
    legend = LINE * max(sum(1 + label.count("\n") for label in panel) for panel in labels.values())
    figure = drawing.canvas(inches * per_row, (2.2 + legend) * -(-len(lines) // per_row))
    for axes, (place, panel) in zip(drawing.panels(figure, len(lines), per_row), lines.items(), strict=True):
        _fill(axes, panel, bands)
        axes.set(ylabel=drawing.wrapped(label, 40))
        axes.legend(labels[place], loc="upper left", bbox_to_anchor=(-0.1, -0.32), borderaxespad=0)
        drawing.set_title(axes, place, inches)
    return figure


def _fill(axes: Any, lines: Sequence[Line], bands: bool) -> None:
    low, layers = _low_end_of(lines, bands), list(lines[0].points.index)
    places = np.arange(len(layers))
    drawn = [line.points if low is None else line.points.clip(lower=low) for line in lines]
    for line, points in zip(lines, drawn, strict=True):  # first, so that the legend is theirs
        look = {"color": line.style.colour, "linestyle": line.style.linestyle, "marker": line.style.marker}
        (artist,) = axes.plot(places, points["Median"], **look)
        mark(artist, [line.methods] if line.methods else (), hover(line.rows()))
    for line, points in zip(lines, drawn, strict=True):
        if bands:
            ends = (points["Lower quartile"], points["Upper quartile"])
            axes.fill_between(places, *ends, color=line.style.colour, alpha=0.2, linewidth=0)
        below = is_clipped(line.points, low)
        look = {"color": line.style.colour, "markerfacecolor": "white", "markersize": 6}
        (artist,) = axes.plot(places[below], points["Median"][below], "v", **look)
        mark(artist, [line.methods] if line.methods else ())
    if low is not None:
        axes.set_yscale("log")
        axes.set_ylim(bottom=low / 1.3)
        axes.yaxis.set_major_locator(LogLocator(numticks=7))
    elif not any((line.points["Median"] < 0).any() for line in lines):
        top = axes.get_ylim()[1]
        axes.set_ylim(-0.03 * top, top)  # a marker at 0 is seen whole
    axes.set_xticks(places, layers, rotation=40, ha="right", rotation_mode="anchor", fontsize=SMALL)


def is_clipped(points: pd.DataFrame, low: float | None) -> np.ndarray:
    """Which medians of a line lie below the low end of a logarithmic axis: (layers,) bool."""
    return (points["Median"].to_numpy() < FLOAT32_ROUNDING) & (low is not None)


def _low_end_of(lines: Sequence[Line], bands: bool) -> float | None:
    points = pd.concat([line.points for line in lines])
    return low_end(points["Median"].to_numpy(), points["Lower quartile"].to_numpy() if bands else None)


def low_end(medians: np.ndarray, drawn: np.ndarray | None = None) -> float | None:
    """The low end of a logarithmic axis, a little below all that isn't rounding; None for a linear axis. drawn: what
    the axis shows besides the medians."""
    bulk = medians[medians >= FLOAT32_ROUNDING]
    if (medians < 0).any() or not len(bulk) or bulk.max() <= SPREAD * bulk.min():
        return None
    shown = bulk if drawn is None else drawn[drawn >= FLOAT32_ROUNDING]
    return float(max(shown.min() / 3, FLOAT32_ROUNDING))
