"""The axiom plane: the methods on the score's scale by their mean sensitivity and conservation error."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D

from axiom_bench.columns import OK
from axiom_bench.report.charts import drawing
from axiom_bench.report.charts.drawing import Chart, Figure, LeftOut, hover
from axiom_bench.report.charts.styles import GREY, MethodStyle, at_same_spot, axis_title, method_styles
from axiom_bench.report.charts.svg import mark
from axiom_bench.report.options import options_of
from axiom_bench.statistics.bootstrap import Floats
from axiom_bench.statistics.labels import Setting, number, rows_at
from axiom_bench.statistics.run_folder import METHOD_FREE, RunFolder

CHART = Chart("axiom-plane", "Axiom plane", "")
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

    errors: the metrics of the axes x and y. floor: the metrics of the floor's two coordinates, of the same rows; a
    plane has no floor where a row has none, or none is chosen.
    """
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
    return Plane(means, corners, images, len(table), len(run.layouts[setting].images))


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


FLOOR = "axiom floor"
MOST_PANEL = 2.8  # inches: the most of a panel's width
MAX_CORNERS = 200  # of the floor that are drawn, evenly: one an image would fill a page


def draw(run: RunFolder) -> Iterator[Figure | LeftOut]:
    """A panel for each setting where a method on the score's scale has both errors."""
    chosen = options_of(run).figures
    if not chosen.plane:
        yield LeftOut(CHART.title, "No two errors are chosen: report.figures.plane=[METRIC,METRIC].")
        return
    drawn = {run.label(setting): axiom_plane(run, setting, chosen.plane, chosen.floor) for setting in run.settings}
    planes = {label: plane for label, plane in drawn.items() if plane is not None}
    if not planes:
        missing = [name for name in chosen.plane if name not in run.metrics]
        add = f"; add metric=[...,{','.join(missing)}]" if missing else ""
        errors = " and ".join(chosen.plane)
        yield LeftOut(CHART.title, f"No method on the score's scale has values of both {errors}{add}.")
        return
    counts = ", ".join(
        f"{label} {plane.images:,} images, {plane.rows:,} of {plane.all_rows:,} rows" for label, plane in planes.items()
    )
    floor = "Without the axiom floor: its values aren't in this run for these images."
    if any(plane.floor is not None for plane in planes.values()):
        floor = "No method can lie below the axiom floor, the line."
    caption = (
        f"Each method on the score's scale: means over the rows where all of them have both errors ({counts}). "
        f"Methods on one spot are rings around it. {floor}"
    )
    axis_titles = [axis_title(run.metadata.value(name), "Mean") for name in chosen.plane]
    frames = {label: _frame(run, plane, axis_titles) for label, plane in planes.items()}
    plot = partial(_plot, run, planes, frames, axis_titles)
    yield Figure("axiom_plane", CHART.title, caption, plot, chart=CHART, frame=drawing.by_network(frames))


def _frame(run: RunFolder, plane: Plane, axis_titles: Sequence[str]) -> pd.DataFrame:
    methods = [run.metadata.method_title(name) for name in plane.points.index]
    means = dict(zip(axis_titles, plane.points.to_numpy().T, strict=True))
    return pd.DataFrame({"Method": methods, **means, "Also here": at_same_spot(methods, *means.values())})


def _plot(
    run: RunFolder, planes: Mapping[str, Plane], frames: Mapping[str, pd.DataFrame], axis_titles: Sequence[str]
) -> Canvas:
    styles, texts = method_styles(run), iter(hover(drawing.by_network(frames)))
    shown = {
        label: partial(_fill, plane, styles, [next(texts) for _ in plane.points.index])
        for label, plane in planes.items()
    }
    figure = drawing.side_by_side(shown, [FLOOR, *(style.title for style in styles.values())], square=MOST_PANEL)
    figure.supxlabel(axis_titles[0])
    figure.supylabel(axis_titles[1])
    for handle in figure.legends[0].legend_handles:
        if isinstance(handle, Line2D):
            handle.set_markersize(5)
    return figure


def _fill(plane: Plane, styles: Mapping[str, MethodStyle], texts: Sequence[str], axes: Any) -> None:
    ends = (0.0, 0.0)
    if plane.floor is not None:
        ends = (plane.floor[0].max(), plane.floor[1].max())
        drawn = np.unique(np.linspace(0, len(plane.floor[0]) - 1, MAX_CORNERS).round().astype(int))
        sensitivity, conservation = plane.floor[0][drawn], plane.floor[1][drawn]
        axes.plot(sensitivity, conservation, color=GREY, linewidth=1.4, label=FLOOR, zorder=2)
        axes.fill_between(sensitivity, conservation, color=GREY, alpha=0.15, linewidth=0, zorder=1)
    rings: Counter[tuple[str, ...]] = Counter()
    for method, (x, y), text in zip(plane.points.index, plane.points.to_numpy(), texts, strict=True):
        # Methods that tie in theory lie on one spot: each later one is a wider ring around the first.
        spot, style = (number(x), number(y)), styles[method]
        look = {"marker": style.marker, "markersize": 5 + 4 * rings[spot], "markeredgecolor": style.colour}
        look |= {"markerfacecolor": "none" if rings[spot] else style.colour, "markeredgewidth": 1.2}
        rings[spot] += 1
        (point,) = axes.plot(x, y, label=style.title, linestyle="none", zorder=4, clip_on=False, **look)
        mark(point, [method], [text])
    for axis_name, points, end in zip("xy", plane.points.to_numpy().T, ends, strict=True):
        drawing.spread_axis(axes, axis_name, np.append(points, end), from_zero=True)
