"""The axiom plane: mean sensitivity against mean conservation error, one point a method, above the axiom floor."""

from __future__ import annotations

from functools import partial
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from axiom_bench.report.charts import look, scales
from axiom_bench.report.charts.chart import Chart, Choice, Panel, beside, columns
from axiom_bench.report.options import options_of
from axiom_bench.statistics.axiom_plane import Plane, axiom_plane
from axiom_bench.statistics.metadata import Setting
from axiom_bench.statistics.numbers import number
from axiom_bench.statistics.run_folder import RunFolder

TITLE = "Axiom plane"
CORNERS = 200  # of the floor that are drawn: one an image would fill a page
SIZE = 80  # square pixels of a point
HEIGHT = 320


def chart(run: RunFolder) -> Chart | None:
    """A panel for each network; None where no method on the score's scale has both errors."""
    chosen = options_of(run).figures
    planes = {
        setting: plane
        for setting in run.settings
        if (plane := axiom_plane(run, setting, chosen.plane, chosen.floor)) is not None
    }
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
    return Chart("axiom-plane", TITLE, "", [Choice(TITLE, caption + floor, panels)], {"plane": partial(_spec, run)})


def _panel(run: RunFolder, setting: Setting, plane: Plane) -> Panel:
    x, y = plane.points.to_numpy().T
    spots = pd.Series(list(zip(map(number, x), map(number, y), strict=True)))
    ring = spots.groupby(spots).cumcount()
    side = SIZE**0.5 + 6 * ring
    also = beside([run.metadata.method_title(name) for name in plane.points.index], x, y)
    points = {"method": list(plane.points.index), "x": x, "y": y, "ring": ring, "size": side**2, "also": also}
    tables = {"points": columns(pd.DataFrame(points)), "floor": {"x": [], "y": []}}
    ends = (0.0, 0.0)
    if plane.floor is not None:
        drawn = np.unique(np.linspace(0, len(plane.floor[0]) - 1, CORNERS).round().astype(int))
        tables["floor"] = columns(pd.DataFrame({"x": plane.floor[0][drawn], "y": plane.floor[1][drawn]}))
        ends = (float(plane.floor[0].max()), float(plane.floor[1].max()))
    params = scales.symlog_params("x", np.append(x, ends[0]), from_zero=True)
    params |= scales.symlog_params("y", np.append(y, ends[1]), from_zero=True)
    label = run.label(setting)
    description = f"{TITLE} of {label}: each method by its two mean errors."
    return Panel(label, "plane", description, tables, HEIGHT, params)


def _spec(run: RunFolder) -> dict[str, Any]:
    names = dict(zip("xy", options_of(run).figures.plane, strict=True))
    titles = {axis: f"Mean {look.small(look.axis_title(run.metadata.value(name)))}" for axis, name in names.items()}
    x, y = (scales.symlog(kind, axis, axis, titles[axis]) for axis, kind in (("x", alt.X), ("y", alt.Y)))
    floor = alt.Chart(alt.NamedData("floor"))
    area = floor.mark_area(color=look.SOFT, opacity=0.12, clip=True).encode(x, y)
    line = floor.mark_line(color=look.SOFT, strokeWidth=2, clip=True).encode(x, y)
    points = alt.Chart(alt.NamedData("points")).transform_filter(look.SHOWN)
    shape = alt.Shape("shape:N", scale=None)
    fill = alt.when("datum.ring > 0").then(alt.value("transparent")).otherwise(alt.Fill("colour:N", scale=None))
    marks = points.mark_point(strokeWidth=2, opacity=1).encode(
        x, y, shape, alt.Size("size:Q", scale=None), stroke=alt.Stroke("colour:N", scale=None), fill=fill
    )
    hover = {"points": {"title": "Method", **titles, "also": "Also here"}}
    params = [f"{axis}_{name}" for axis in "xy" for name in scales.SYMLOG]
    return look.finished(alt.layer(area, line, marks), hover, params)
