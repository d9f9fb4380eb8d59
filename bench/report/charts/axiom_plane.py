"""The axiom plane: mean sensitivity against mean conservation error, one point a method, above the axiom floor."""

from __future__ import annotations

from typing import Any

import altair as alt
import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator

from axiom_bench.report.charts import look
from axiom_bench.report.charts.chart import Chart, Choice, Panel, columns
from axiom_bench.report.numbers import FLOAT32_ROUNDING, number
from axiom_bench.report.run_folder import RunFolder, Setting
from axiom_bench.report.statistics.axiom_plane import Plane, axiom_plane

TITLE = "Axiom plane"
CORNERS = 200  # of the floor that are drawn: one an image would fill a page
SMALLEST = 0.01  # the least that an axis shows: below lie methods that are exact but for rounding
SPREAD = 20.0  # of the points' largest to smallest coordinate: from here on a linear axis hides the small ones
LINEAR = 1e9  # the symlog scale's constant that makes it linear
SIZE = 80  # square pixels of a point
HEIGHT = 320
MARGIN = 0.04  # of the axis, below 0, so that points on the axis don't cover its labels


def chart(run: RunFolder) -> Chart | None:
    """A panel for each network; None where no method on the score's scale has both errors."""
    planes = {setting: plane for setting in run.settings if (plane := axiom_plane(run, setting)) is not None}
    if not planes:
        return None
    panels = [_panel(run, setting, plane) for setting, plane in planes.items()]
    counts = ", ".join(
        f"{run.label(setting)} {plane.images:,} images, {plane.rows:,} of {plane.all_rows:,} rows"
        for setting, plane in planes.items()
    )
    caption = (
        f"Each method on the score's scale: means over the rows where all of them have both errors ({counts}). "
        "Methods on one spot are rings around it. "
    )
    floor = "Without the axiom floor: its values aren't in this run for these images."
    if any(plane.floor is not None for plane in planes.values()):
        floor = "No method can lie below the axiom floor, the line."
    return Chart("axiom-plane", TITLE, "", [Choice(TITLE, caption + floor, panels)], {"plane": _spec(run)})


def _panel(run: RunFolder, setting: Setting, plane: Plane) -> Panel:
    x, y = plane.points.to_numpy().T
    spots = pd.Series(list(zip(map(number, x), map(number, y), strict=True)))
    ring = spots.groupby(spots).cumcount()
    side = SIZE**0.5 + 6 * ring
    titles = [run.method_title(name) for name in plane.points.index]
    points = {"method": list(plane.points.index), "group": titles, "x": x, "y": y, "ring": ring, "size": side**2}
    tables = {"points": columns(pd.DataFrame(points)), "floor": {"x": [], "y": []}}
    ends = (0.0, 0.0)
    if plane.floor is not None:
        drawn = np.unique(np.linspace(0, len(plane.floor[0]) - 1, CORNERS).round().astype(int))
        tables["floor"] = columns(pd.DataFrame({"x": plane.floor[0][drawn], "y": plane.floor[1][drawn]}))
        ends = (float(plane.floor[0].max()), float(plane.floor[1].max()))
    params = _axis("x", x, ends[0]) | _axis("y", y, ends[1])
    label = run.label(setting)
    description = f"{TITLE} of {label}: each method by its two mean errors; the numbers are in the table below."
    return Panel(label, "plane", description, tables, HEIGHT, params)


def _axis(name: str, points: np.ndarray, end: float) -> dict[str, Any]:
    """From 0 up, so that the floor's ends are seen; logarithmic beyond the smallest value where they spread wide."""
    values = [float(value) for value in (*points, end) if value > FLOAT32_ROUNDING] or [SMALLEST]
    high = max(1.15 * max(values), SMALLEST)
    if max(values) <= SPREAD * min(values):
        linear, ticks = LINEAR, MaxNLocator(nbins=5, steps=[1, 2, 5, 10]).tick_values(0, high)
        low = -MARGIN * high
    else:
        linear = max(min(values), high / 1000)
        ticks = np.append(0, 10.0 ** np.arange(np.ceil(np.log10(linear)), np.log10(high)))
        low = -MARGIN * linear * np.log1p(high / linear)  # the scale is linear near 0
    return {f"{name}_low": low, f"{name}_high": high, f"{name}_linear": linear, f"{name}_ticks": _within(ticks, high)}


def _within(ticks: Any, high: float) -> list[float]:
    return [float(f"{tick:.6g}") for tick in ticks if 0 <= tick <= high]


def _spec(run: RunFolder) -> dict[str, Any]:
    names = dict(zip("xy", run.options.figures.plane, strict=True))
    titles = {axis: f"{look.axis_title(run.value(name))}" for axis, name in names.items()}

    def channel(kind: Any, axis: str) -> Any:
        domain = [alt.ExprRef(f"{axis}_low"), alt.ExprRef(f"{axis}_high")]
        scale = alt.Scale(type="symlog", constant=alt.ExprRef(f"{axis}_linear"), domain=domain, nice=False)
        ticks = alt.Axis(title=f"Mean {_lower(titles[axis])}", values=alt.ExprRef(f"{axis}_ticks"), format="~g")
        return kind(f"{axis}:Q", scale=scale, axis=ticks)

    x, y = channel(alt.X, "x"), channel(alt.Y, "y")
    floor = alt.Chart(alt.NamedData("floor"))
    area = floor.mark_area(color=look.SOFT, opacity=0.12, clip=True, aria=False).encode(x, y)
    line = floor.mark_line(color=look.SOFT, strokeWidth=2, clip=True, aria=False).encode(x, y)
    points = alt.Chart(alt.NamedData("points")).transform_filter(look.SHOWN)
    shape = alt.Shape("shape:N", scale=None)
    fill = alt.when("datum.ring > 0").then(alt.value("transparent")).otherwise(alt.Fill("colour:N", scale=None))
    marks = points.mark_point(strokeWidth=2, opacity=1, aria=False).encode(
        x, y, shape, alt.Size("size:Q", scale=None), stroke=alt.Stroke("colour:N", scale=None), fill=fill
    )
    hover = {"points": {"group": "Method", **{axis: f"Mean {_lower(titles[axis])}" for axis in "xy"}}}
    names_of_params = [f"{axis}_{name}" for axis in "xy" for name in ("low", "high", "linear", "ticks")]
    return look.finished(alt.layer(area, line, marks), hover, names_of_params)


def _lower(title: str) -> str:
    return title[:1].lower() + title[1:]
