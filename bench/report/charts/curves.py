"""Perturbation curves: the model's output against the share of the pixels that is changed, a line for each method."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as arrow
from matplotlib.figure import Figure as Canvas
from numpy.typing import NDArray

from axiom_bench.columns import OK
from axiom_bench.records import reading
from axiom_bench.report.charts import drawing
from axiom_bench.report.charts.drawing import LETTER, PANEL, Chart, Figure, LeftOut, hover
from axiom_bench.report.charts.styles import BETTER, at_same_spot, method_styles
from axiom_bench.report.charts.svg import mark
from axiom_bench.statistics.bootstrap import NORMAL, Floats
from axiom_bench.statistics.labels import Setting, counts_text
from axiom_bench.statistics.run_folder import RunFolder

CHART = Chart("curves", "Perturbation curves", "Curve")
MAX_POINTS = 65  # of a curve in the table of its numbers


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


SHADE = 0.15  # of a band, where there are few of them
BANDS = 4  # from here on each is fainter, so that together they stay lighter than the lines
MAX_MARKED = 12  # points of a curve that are marked


def draw(run: RunFolder) -> Iterator[Figure | LeftOut]:
    """One figure for each curve with an axis in the manifest; nothing for a run without such."""
    axes: Mapping[str, Mapping[str, Any]] = run.manifest.get("axes") or {}
    measured = mean_curves(run, axes)
    for name, axis in axes.items():
        label = str(axis.get("title", name))
        title = f"{label}: perturbation curves"
        curves = [curve for curve in measured if curve.curve == name and len(curve.mean) == len(axis["at"])]
        if not curves:
            yield LeftOut(title, f"No method has the curve {name} on any image: the table of statuses says why.")
            continue
        better = BETTER.get(str(axis.get("better")), "")
        counts = counts_text((curve.images for curve in curves), (curve.rows for curve in curves))
        caption = (
            f"Mean {axis['y']} against the {axis['x']}{better and f'; {better}'}; bands are 95 % confidence intervals "
            f"of the mean over rows, by image. {counts} a curve."
        )
        frame, plot = _frame(run, axis, curves, MAX_POINTS), partial(_plot, run, axis, curves)
        yield Figure(f"perturbation_{name}", title, caption, plot, chart=CHART, label=label, frame=frame)


def _frame(run: RunFolder, axis: Mapping[str, Any], curves: Sequence[MeanCurve], most: int) -> pd.DataFrame:
    """A row for each point, of a curve at most so many, evenly."""
    at, x, parts = np.asarray(axis["at"], dtype=float), str(axis["x"]), []
    drawn = np.unique(np.linspace(0, len(at) - 1, most).round().astype(int))
    for curve in curves:
        half = np.nan_to_num(curve.half_width)  # without a band where there is one image
        numbers = {"Mean": curve.mean, "95 % interval from": curve.mean - half, "to": curve.mean + half}
        numbers = {x[:1].upper() + x[1:]: at} | numbers
        about = {"Network": run.label(curve.setting), "Method": run.metadata.method_title(curve.method)}
        parts.append(pd.DataFrame(about | {name: column[drawn] for name, column in numbers.items()}))
    table = pd.concat(parts, ignore_index=True)
    spots = (table.groupby("Network").ngroup(), table.iloc[:, 2], table["Mean"])
    return table.assign(**{"Also here": at_same_spot(list(table["Method"]), *spots)})


def _plot(run: RunFolder, axis: Mapping[str, Any], curves: Sequence[MeanCurve]) -> Canvas:
    styles = {name: style for name, style in method_styles(run).items() if name in {curve.method for curve in curves}}
    at, every, alpha = axis["at"], -(-len(axis["at"]) // MAX_MARKED), SHADE * min(1, BANDS / len(styles))
    titles = _frame(run, axis, curves, len(at)).assign(text=hover).groupby(["Network", "Method"])["text"]

    def fill(setting: Setting, axes: Any) -> None:
        for curve in (curve for curve in curves if curve.setting == setting):
            style = styles[curve.method]
            look = {"marker": style.marker, "markersize": 3, "markevery": every, "linestyle": style.linestyle}
            (line,) = axes.plot(at, curve.mean, label=style.title, color=style.colour, **look)
            mark(line, [curve.method], list(titles.get_group((run.label(setting), style.title)))[::every])
            low, high = curve.mean - curve.half_width, curve.mean + curve.half_width
            band = axes.fill_between(at, low, high, color=style.colour, alpha=alpha, linewidth=0)
            mark(band, [curve.method])

    shown = {run.label(curve.setting): partial(fill, curve.setting) for curve in curves}
    figure = drawing.side_by_side(shown, [style.title for style in styles.values()], sharex=True, sharey=True)
    figure.supxlabel(axis["x"])
    better = BETTER.get(str(axis.get("better")), "")
    figure.supylabel(drawing.wrapped(f"Mean {axis['y']}{better and f', {better}'}", int(PANEL / LETTER)))
    return figure
