"""Perturbation curves: the model's output against the share of the pixels that is changed, a line for each method."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import altair as alt
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as arrow
from matplotlib.figure import Figure
from numpy.typing import NDArray

from axiom_bench.columns import OK
from axiom_bench.records import reading
from axiom_bench.report.charts import vega
from axiom_bench.report.charts.drawing import Drawing, LeftOut, across, canvas, legend, panels, set_title
from axiom_bench.report.charts.vega import Chart, Choice, Panel, at_same_spot, columns, method_styles
from axiom_bench.report.options import COLUMN
from axiom_bench.statistics.bootstrap import NORMAL, Floats
from axiom_bench.statistics.labels import Setting, counts_text
from axiom_bench.statistics.run_folder import RunFolder

HEIGHT = 300
MAX_POINTS = 65  # of a curve that are drawn


class MeanCurve(NamedTuple):
    """One curve of one method in one setting: the mean over `rows` rows of `images` images, and half the width of its
    95 % confidence interval at each point, by image (see `summary.summarise`). NaN for one image."""

    setting: Setting
    curve: str
    method: str
    images: int
    rows: int
    mean: Floats
    half_width: Floats


def mean_curves(run: RunFolder, names: Iterable[str]) -> list[MeanCurve]:
    """The curves of these names, in the order of the run's settings and methods; only rows with status "ok" count.

    Raises BenchError for a file that can't be read.
    """
    wanted = list(names)
    parts: dict[tuple[Setting, str, str], list[tuple[Any, ...]]] = defaultdict(list)
    for part in reading.read_curves(run.path, run.manifest, wanted) if wanted else ():
        for method, curve, image_ids, points in _groups(part.table):
            parts[Setting(part.model, part.layer, part.data), curve, method].append(_sums(image_ids, points))
    orders = (run.settings, wanted, list(run.manifest.get("methods") or ()))

    def place(key: tuple[Any, ...]) -> list[int]:
        return [order.index(name) if name in order else len(order) for name, order in zip(key, orders, strict=True)]

    curves = []
    for key in sorted(parts, key=place):
        sums: list[Any] = [sum(column) for column in zip(*parts[key], strict=True)]
        images, rows, squared_rows, total, squared, crossed = sums
        mean = total / rows
        squares = np.clip(squared - 2 * mean * crossed + mean**2 * squared_rows, 0, None)
        with np.errstate(invalid="ignore", divide="ignore"):
            error = np.sqrt(np.float64(images) / (images - 1) * squares) / rows
        curves.append(MeanCurve(*key, images, rows, mean, NORMAL * error))
    return curves


def _sums(image_ids: NDArray[np.object_], points: Floats) -> tuple[Any, ...]:
    """What a file adds to a curve: sums over its images of 1, n_i, n_i^2, and at each point (n,) of T_i, T_i^2 and T_i
    n_i. T_i is the sum of an image's n_i rows. points: (N, n). All rows of an image are in one file."""
    _, image = np.unique(image_ids, return_inverse=True)
    count = np.bincount(image)
    totals = np.zeros((len(count), points.shape[1]))
    np.add.at(totals, image, points)
    return len(count), len(points), int((count**2).sum()), totals.sum(0), (totals**2).sum(0), count @ totals


def _groups(table: pa.Table) -> Iterator[tuple[str, str, NDArray[np.object_], Floats]]:
    """Method, curve, image ids (N,) and points (N, n) of the rows with status "ok"."""
    names = table.select(["method", "curve"]).cast(pa.schema([("method", pa.string()), ("curve", pa.string())]))
    is_ok = arrow.equal(table["status"].cast(pa.string()), OK)
    for method, curve in pd.MultiIndex.from_frame(names.filter(is_ok).to_pandas()).unique():
        mask = arrow.and_(arrow.equal(names["method"], method), arrow.equal(names["curve"], curve))
        rows = table.filter(arrow.and_(mask, is_ok))
        points = rows["points"].combine_chunks()
        yield method, curve, rows["image_id"].to_numpy(), np.asarray(points.flatten()).reshape(len(rows), -1)


def chart(run: RunFolder) -> Chart | None:
    """A choice for each curve with an axis in the manifest; None for a run without such."""
    choices, specs = [], {}
    for name, axis, curves in _curves(run):
        if not curves:
            continue
        specs[f"curve-{name}"] = partial(_spec, axis)
        ends = np.concatenate([_band(curve).ravel() for curve in curves])
        limits = vega.limits(float(ends.min()), float(ends.max()), log=False)
        title, panels = str(axis.get("title", name)), []
        for setting in dict.fromkeys(curve.setting for curve in curves):
            selected = [curve for curve in curves if curve.setting == setting]
            label, tables = run.label(setting), {"points": columns(_points(run, axis["at"], selected))}
            description = f"{title} on {label}, a line for each method."
            panels.append(Panel(label, f"curve-{name}", description, tables, HEIGHT, limits))
        shown = "Means over rows; bands are their 95 % confidence intervals, by image."
        choices.append(Choice(title, f"{shown} {_counts(curves)} a curve.", panels))
    return Chart("curves", "Perturbation curves", "Curve", choices, specs) if choices else None


def _curves(run: RunFolder) -> Iterator[tuple[str, Mapping[str, Any], list[MeanCurve]]]:
    """(name, axis, its curves on that axis) of each curve with an axis in the manifest."""
    axes: Mapping[str, Mapping[str, Any]] = run.manifest.get("axes") or {}
    curves = mean_curves(run, axes)
    for name, axis in axes.items():
        yield name, axis, [curve for curve in curves if curve.curve == name and len(curve.mean) == len(axis["at"])]


def _counts(curves: Sequence[MeanCurve]) -> str:
    return counts_text((curve.images for curve in curves), (curve.rows for curve in curves))


def _points(run: RunFolder, at: Sequence[float], curves: Sequence[MeanCurve]) -> pd.DataFrame:
    drawn = np.unique(np.linspace(0, len(at) - 1, MAX_POINTS).round().astype(int))
    parts = []
    for curve in curves:
        low, mean, high = _band(curve)[:, drawn]
        points = {"at": np.asarray(at, dtype=float)[drawn], "mean": mean, "low": low, "high": high}
        parts.append(pd.DataFrame({"method": curve.method, **points}))
    table = pd.concat(parts, ignore_index=True)
    titles = [run.metadata.method_title(name) for name in table["method"]]
    return table.assign(also=at_same_spot(titles, table["at"], table["mean"]))


def _band(curve: MeanCurve) -> np.ndarray:
    """(3, n): the low end, the mean, the high end; without a band where there is one image."""
    half = np.nan_to_num(curve.half_width)
    return np.stack([curve.mean - half, curve.mean, curve.mean + half])


def _spec(axis: Mapping[str, Any]) -> dict[str, Any]:
    better = vega.BETTER.get(str(axis.get("better")))
    y_title = f"Mean {axis['y']}, {better}" if better else f"Mean {axis['y']}"
    x = alt.X("at:Q", axis=alt.Axis(title=vega.capital(str(axis["x"])), tickCount=5))

    def y(column: str) -> alt.Y:
        return alt.Y(f"{column}:Q", scale=vega.between_limits(log=False), axis=vega.axis(y_title))

    data = alt.Chart(alt.NamedData("points")).transform_filter(vega.SHOWN)
    fill, colour = alt.Fill("colour:N", scale=None), alt.Color("colour:N", scale=None)
    group = alt.Detail("method:N")
    band = data.mark_area(opacity=0.15, clip=True).encode(x, y("low"), alt.Y2("high"), fill, group)
    line = data.mark_line(strokeWidth=2, clip=True).encode(
        x, y("mean"), colour, group, alt.StrokeDash("dash:N", scale=None)
    )
    near = data.mark_point(size=120, opacity=0, filled=True).encode(x, y("mean"), colour)
    hover = {"title": "Method", "at": vega.capital(str(axis["x"])), "mean": "Mean", "low": "95 % interval from",
             "high": "to", "also": "Also here"}  # fmt: skip
    return vega.finished(alt.layer(band, line, near), {"points": hover}, (*vega.LIMITS,))


PANEL = 1.9  # inches: the width of a panel
LEGEND, ENTRY = 1.4, 0.14  # inches: the width of a legend beside the panels, the height of an entry
SHADE = 0.15  # of a band, where there are few of them
BANDS = 4  # from here on each is fainter, so that together they stay lighter than the lines
MAX_MARKED = 12  # points of a curve up to which each is marked


def draw(run: RunFolder) -> Iterator[Drawing | LeftOut]:
    """One figure for each curve with an axis in the manifest; nothing for a run without such."""
    for name, axis, curves in _curves(run):
        title = f"{axis.get('title', name)}: perturbation curves"
        if not curves:
            reason = f"No method has the curve {name} on any image: the table of statuses says why."
            yield LeftOut(title, reason)
            continue
        better = {"higher": "; higher is better", "lower": "; lower is better"}.get(str(axis.get("better")), "")
        caption = (
            f"Mean {axis['y']} against the {axis['x']}{better}; bands are 95 % confidence intervals of the mean over "
            f"rows, by image. {_counts(curves)} a curve."
        )
        yield Drawing(f"perturbation_{name}", title, caption, partial(_plot, run, axis, curves))


def _plot(run: RunFolder, axis: Mapping[str, Any], curves: Sequence[MeanCurve], width: float) -> Figure:
    settings = list(dict.fromkeys(curve.setting for curve in curves))
    styles = {name: style for name, style in method_styles(run).items() if name in {curve.method for curve in curves}}
    room = width - LEGEND if width > COLUMN else width
    per_row = across(len(settings), room, PANEL, PANEL)
    height = 1.9 * -(-len(settings) // per_row)
    beside_legend = max(height, 0.3 + ENTRY * len(styles))
    figure = canvas(width, beside_legend if width > COLUMN else height + ENTRY * (1 + -(-len(styles) // 2)))
    drawn, faintness = panels(figure, len(settings), per_row, sharex=True, sharey=True), min(1, BANDS / len(styles))
    for axes, setting in zip(drawn, settings, strict=True):
        for curve in (curve for curve in curves if curve.setting == setting):
            at, style = axis["at"], styles[curve.method]
            marker = {"marker": style.marker, "markersize": 3} if len(at) <= MAX_MARKED else {}
            axes.plot(at, curve.mean, label=style.title, color=style.colour, linestyle=style.linestyle, **marker)
            low, high, alpha = curve.mean - curve.half_width, curve.mean + curve.half_width, SHADE * faintness
            axes.fill_between(at, low, high, color=style.colour, alpha=alpha, linewidth=0)
        set_title(axes, run.label(setting), room / per_row)
    legend(figure, [style.title for style in styles.values()], width)
    figure.supxlabel(axis["x"])
    figure.supylabel(f"mean {axis['y']}")
    return figure
