"""The axiom plane: mean sensitivity against mean conservation error, one point a method, above the axiom floor."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from axiom_bench.report.figures.boxes import axis_label
from axiom_bench.report.figures.drawing import Drawing, LeftOut, across, canvas, legend, panels, set_title
from axiom_bench.report.method_styles import MethodStyle, method_styles
from axiom_bench.report.options import options_of
from axiom_bench.report.sizes import COLUMN
from axiom_bench.statistics.axiom_plane import Plane, axiom_plane
from axiom_bench.statistics.bootstrap import Floats
from axiom_bench.statistics.metadata import Setting
from axiom_bench.statistics.numbers import FLOAT32_ROUNDING, number
from axiom_bench.statistics.run_folder import RunFolder

TITLE = "Axiom plane"
FLOOR = "axiom floor"
PANEL, MOST_PANEL = 1.9, 2.8  # inches: the width of a panel, and the most of it
LEGEND, ENTRY = 1.4, 0.2  # inches: the width of a legend beside the panels, the height of an entry
CORNERS = 1000  # of the floor that are drawn: one an image would fill a PDF
SMALLEST = 0.01  # the least that an axis shows: below lie methods that are exact but for rounding
SPREAD = 20.0  # of the points' largest to smallest coordinate: from here on a linear axis hides the small ones


def draw(run: RunFolder) -> Iterator[Drawing | LeftOut]:
    """A panel for each setting where a method on the score's scale has both errors."""
    if not options_of(run).figures.plane:
        yield LeftOut(TITLE, "No two errors are chosen: report.figures.plane=[METRIC,METRIC].")
        return
    x, y = options_of(run).figures.plane
    chosen = options_of(run).figures
    planes = {
        setting: plane
        for setting in run.settings
        if (plane := axiom_plane(run, setting, chosen.plane, chosen.floor)) is not None
    }
    if not planes:
        missing = [name for name in (x, y) if name not in run.metrics]
        add = f"; add metric=[...,{','.join(missing)}]" if missing else ""
        yield LeftOut(TITLE, f"No method on the score's scale has values of both {x} and {y}{add}.")
        return
    yield Drawing("axiom_plane", TITLE, " ".join(_caption(run, planes)), partial(_plot, run, planes))


def _plot(run: RunFolder, planes: Mapping[Setting, Plane], width: float) -> Figure:
    x, y = options_of(run).figures.plane
    room = width - LEGEND if width > COLUMN else width
    beside = across(len(planes), room, PANEL, PANEL)
    side = min(MOST_PANEL, room / beside)
    figure = canvas(
        side * beside + width - room,
        0.95 * side * -(-len(planes) // beside) + (0 if width > COLUMN else ENTRY * (1 + len(method_styles(run)) // 2)),
    )
    for axes, (setting, plane) in zip(panels(figure, len(planes), beside), planes.items(), strict=True):
        _panel(axes, plane, method_styles(run))
        set_title(axes, run.label(setting), side)
    figure.supxlabel(f"{axis_label(run.metadata.value(x))}, mean")
    figure.supylabel(f"{axis_label(run.metadata.value(y))}, mean")
    _legend(figure, [style.title for style in method_styles(run).values()], width)
    return figure


def _panel(axes: Any, plane: Plane, styles: Mapping[str, MethodStyle]) -> None:
    if plane.floor is not None:
        drawn = np.unique(np.linspace(0, len(plane.floor[0]) - 1, CORNERS).round().astype(int))
        sensitivity, conservation = (corners[drawn] for corners in plane.floor)
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


def _legend(figure: Figure, titles: list[str], width: float) -> None:
    """One legend for all panels: the floor where it is drawn, then each method once, in the order of the manifest."""
    pairs = [pair for axes in figure.axes for pair in zip(*axes.get_legend_handles_labels(), strict=True)]
    entries = {label: handle for handle, label in pairs}
    order = [label for label in dict.fromkeys((FLOOR, *titles)) if label in entries]
    for handle in legend(figure, [entries[label] for label in order], order, width).legend_handles:
        if isinstance(handle, Line2D):
            handle.set_markersize(5)


def _caption(run: RunFolder, planes: dict[Setting, Plane]) -> Iterator[str]:
    counts = ", ".join(
        f"{run.label(setting)} {plane.images:,} images, {plane.rows:,} of {plane.all_rows:,} rows"
        for setting, plane in planes.items()
    )
    yield f"Each method on the score's scale: means over the rows where all of them have both errors ({counts})."
    yield "Methods on one spot are rings around it."
    if all(plane.floor is None for plane in planes.values()):
        yield "Without the axiom floor: its values aren't in this run for these images."
    else:
        yield "No method can lie below the axiom floor, the line."
