"""The `layers` experiment: the axiom errors against depth, of the layers themselves and of every method."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from axiom_bench.columns import OK, WHOLE_SET
from axiom_bench.report.figures.boxes import axis_label
from axiom_bench.report.figures.captions import counts_by
from axiom_bench.report.figures.drawing import MARKERS, PALETTE, Drawing, LeftOut, canvas, panels
from axiom_bench.report.numbers import FLOAT32_ROUNDING
from axiom_bench.report.run_folder import METHOD_FREE, RunFolder

TITLE = "Axiom errors by depth"
SPREAD = 30.0  # of the largest to the smallest median: from here on a linear axis hides the small ones
LINES = ("-", "--", ":", "-.")
ORDER = "Layers in the order in which the network runs them"
PLACES = ["model", "layer", "data", "metric", "method"]
Place = tuple[str, str]  # a model and a data set


@dataclass(frozen=True)
class Line:
    """quartiles: a row for each layer, NaN where nothing was measured, with the columns 0.25, 0.5 and 0.75."""

    label: str
    quartiles: pd.DataFrame

    @property
    def medians(self) -> np.ndarray:
        """One for each layer."""
        return self.quartiles[0.5].to_numpy()


def draw(run: RunFolder) -> Iterator[Drawing | LeftOut]:
    """Two kinds of figures, a panel for each model and data set with several layers; nothing where none has several.

    The method-free errors of `config.report.figures.by_depth` together, with the band between the quartiles; and each
    of the errors of `plane`, a line for each method, one for methods that are the same at every layer.
    """
    deep = {place: layers for place, layers in _layers(run).items() if len(layers) > 1}
    if not deep:
        return
    rows = run.records[(run.records["status"] == OK) & (run.records["image_id"] != WHOLE_SET)]
    names = run.options.figures.by_depth
    free = rows[rows["metric"].isin(names) & (rows["method"] == METHOD_FREE)]
    if free.empty:
        yield LeftOut(TITLE, f"The run has no values of {' or '.join(names)}.")
    else:
        lines = {place: _of_metrics(run, _at(free, place), layers) for place, layers in deep.items()}
        yield _drawing("by_depth", TITLE, "error [ratio]", lines, deep, free, bands=True)
    for name in run.options.figures.plane:
        own = rows[(rows["metric"] == name) & (rows["method"] != METHOD_FREE)]
        value = run.value(name)
        if not own.empty:
            lines = {place: _of_methods(_at(own, place), layers) for place, layers in deep.items()}
            yield _drawing(
                f"by_depth_{name}", f"{value.title} by depth", axis_label(value), lines, deep, own, bands=False
            )


def _layers(run: RunFolder) -> dict[Place, list[str]]:
    layers: dict[Place, list[str]] = {}
    for setting in run.settings:
        layers.setdefault((setting.model, setting.data), []).append(setting.layer)
    return layers


def _at(rows: pd.DataFrame, place: Place) -> pd.DataFrame:
    return rows[(rows["model"] == place[0]) & (rows["data"] == place[1])]


def _of_metrics(run: RunFolder, rows: pd.DataFrame, layers: Sequence[str]) -> list[Line]:
    names = [name for name in run.options.figures.by_depth if (rows["metric"] == name).any()]
    return [Line(run.value(name).title, _quartiles(rows[rows["metric"] == name], layers)) for name in names]


def _of_methods(rows: pd.DataFrame, layers: Sequence[str]) -> list[Line]:
    """Methods whose medians are the same at every layer, but for rounding, share a line."""
    lines: list[Line] = []
    for method in rows["method"].cat.categories:
        own = rows[rows["method"] == method]
        if own.empty:
            continue
        line = Line(method, _quartiles(own, layers))
        same = [i for i, other in enumerate(lines) if _close(other.medians, line.medians)]
        if same:
            lines[same[0]] = Line(f"{lines[same[0]].label} = {method}", lines[same[0]].quartiles)
        else:
            lines.append(line)
    return lines


def _quartiles(rows: pd.DataFrame, layers: Sequence[str]) -> pd.DataFrame:
    groups = rows.groupby(rows["layer"].astype(str))["value"]
    return groups.quantile(np.array([0.25, 0.5, 0.75])).unstack().reindex(list(layers))


def _close(medians: np.ndarray, others: np.ndarray) -> bool:
    return bool(np.allclose(medians, others, rtol=1e-5, atol=FLOAT32_ROUNDING, equal_nan=True))


def _drawing(
    name: str,
    title: str,
    ylabel: str,
    lines: dict[Place, list[Line]],
    layers: dict[Place, list[str]],
    rows: pd.DataFrame,
    bands: bool,
) -> Drawing:
    clipped = any(_is_clipped(line, _low_end(panel, bands)).any() for panel in lines.values() for line in panel)
    statistics = "medians, and the band between the quartiles" if bands else "medians"
    rounding = " Open triangles: medians below 1e-6, which is rounding, on the axis's low end." if clipped else ""
    caption = f"{ORDER}; {statistics}. {counts_by(rows, PLACES)} a median.{rounding}"
    return Drawing(name, title, caption, partial(_plot, ylabel, lines, layers, bands))


def _plot(ylabel: str, lines: dict[Place, list[Line]], layers: dict[Place, list[str]], bands: bool) -> Figure:
    several = len({data for _, data in layers}) > 1
    columns, deepest = min(3, len(layers)), max(map(len, layers.values()))
    longest = max(len(line.label) for lines_of_panel in lines.values() for line in lines_of_panel)
    width = max(2.6, 0.5 * deepest) + 0.8 + 0.075 * longest
    figure = canvas(width * columns, 3.4 * -(-len(layers) // columns))
    for axes, (place, lines_of_panel) in zip(panels(figure, len(layers)), lines.items(), strict=True):
        _panel(axes, lines_of_panel, layers[place], bands)
        axes.set(xlabel="layer", ylabel=ylabel)
        axes.set_title(f"{place[0]} ({place[1]})" if several else place[0])
    return figure


def _panel(axes: Any, lines: list[Line], layers: Sequence[str], bands: bool) -> None:
    low = _low_end(lines, bands)
    places = np.arange(len(layers))
    for i, line in enumerate(lines):
        quartiles = line.quartiles if low is None else line.quartiles.clip(lower=low)
        colour, marker = PALETTE[i % len(PALETTE)], MARKERS[i % len(MARKERS)]
        axes.plot(places, quartiles[0.5], LINES[i % len(LINES)], color=colour, marker=marker, label=line.label)
        if bands:
            axes.fill_between(places, quartiles[0.25], quartiles[0.75], color=colour, alpha=0.2, linewidth=0)
        below = _is_clipped(line, low)
        axes.plot(places[below], quartiles[0.5][below], "v", color=colour, markerfacecolor="white", markersize=8)
    if low is not None:
        axes.set_yscale("log")
        axes.set_ylim(bottom=low / 1.3)
        axes.yaxis.set_major_locator(LogLocator(numticks=7))
    elif not _any_negative(lines):
        top = axes.get_ylim()[1]
        axes.set_ylim(-0.03 * top, top)  # a marker at 0 is seen whole
    axes.set_xticks(places, layers, rotation=30, ha="right", rotation_mode="anchor")
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0, fontsize="small")


def _is_clipped(line: Line, low: float | None) -> np.ndarray:
    """Which of the line's medians lie below the low end of a logarithmic axis: (layers,) bool."""
    return (line.medians < FLOAT32_ROUNDING) & (low is not None)


def _low_end(lines: list[Line], bands: bool) -> float | None:
    """The low end of a logarithmic axis, a little below all that isn't rounding; None for a linear axis."""
    medians = np.concatenate([line.medians for line in lines])
    bulk = medians[medians >= FLOAT32_ROUNDING]
    if _any_negative(lines) or not len(bulk) or bulk.max() <= SPREAD * bulk.min():
        return None
    drawn = np.concatenate([line.quartiles[0.25] for line in lines]) if bands else bulk
    return float(max(drawn[drawn >= FLOAT32_ROUNDING].min() / 3, FLOAT32_ROUNDING))


def _any_negative(lines: list[Line]) -> bool:
    return any((line.medians < 0).any() for line in lines)
