"""Charts of lines: perturbation curves, the model's output against the share of the pixels that is
changed, a line for each method. And the axiom errors against depth, of the layers themselves and of
every method (`layers` experiment).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as arrow
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import LogLocator
from numpy.typing import NDArray

from axiom_bench.columns import OK
from axiom_bench.records import reading
from axiom_bench.report.charts import drawing
from axiom_bench.report.charts.drawing import LETTER, PANEL, SMALL, Chart, Figure, LeftOut
from axiom_bench.report.charts.styles import (
    BETTER,
    COLOURS,
    MARKERS,
    MethodStyle,
    at_same_spot,
    axis_title,
    method_styles,
)
from axiom_bench.report.options import PAGE, options_of
from axiom_bench.statistics.bootstrap import NORMAL, Floats
from axiom_bench.statistics.labels import FLOAT32_ROUNDING, Setting, counts_text
from axiom_bench.statistics.run_folder import METHOD_FREE, RunFolder

CURVES = Chart("curves", "Perturbation curves", "Curve")
MAX_POINTS = 65  # of a curve in the table of its numbers


class MeanCurve(NamedTuple):
    """One curve of one method in one setting: the mean over `rows` rows of `images` images, and
    half the width of its 95 % confidence interval at each point, by image (see
    `summary.summarise`). NaN for one image.
    """

    setting: Setting
    curve: str
    method: str
    images: int
    rows: int
    mean: Floats
    half_width: Floats


def mean_curves(run: RunFolder, names: Iterable[str]) -> list[MeanCurve]:
    """The curves of these names, in the order of the run's settings and methods; only rows with
    status "ok" count.

    Raises BenchError for a file that can't be read.
    """
    wanted = list(names)
    parts: dict[tuple[Setting, str, str], list[tuple[Any, ...]]] = defaultdict(list)
    for part in reading.read_curves(run.path, run.manifest, wanted) if wanted else ():
        for method, curve, image_ids, points in _groups(part.table):
            parts[Setting(part.model, part.layer, part.data), curve, method].append(
                _sums(image_ids, points)
            )
    orders = (run.settings, wanted, list(run.manifest.methods))

    def place(key: tuple[Any, ...]) -> list[int]:
        return [
            order.index(name) if name in order else len(order)
            for name, order in zip(key, orders, strict=True)
        ]

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
    """What a file adds to a curve: sums over its images of 1, n_i, n_i^2, and at each point (n,) of
    T_i, T_i^2 and T_i n_i. T_i is the sum of an image's n_i rows. points: (N, n). All rows of an
    image are in one file.
    """
    _, image = np.unique(image_ids, return_inverse=True)
    count = np.bincount(image)
    totals = np.zeros((len(count), points.shape[1]))
    np.add.at(totals, image, points)
    return (
        len(count),
        len(points),
        int((count**2).sum()),
        totals.sum(0),
        (totals**2).sum(0),
        count @ totals,
    )


def _groups(table: pa.Table) -> Iterator[tuple[str, str, NDArray[np.object_], Floats]]:
    """Method, curve, image ids (N,) and points (N, n) of the rows with status "ok"."""
    names = table.select(["method", "curve"]).cast(
        pa.schema([("method", pa.string()), ("curve", pa.string())])
    )
    is_ok = arrow.equal(table["status"].cast(pa.string()), OK)
    for method, curve in pd.MultiIndex.from_frame(names.filter(is_ok).to_pandas()).unique():
        mask = arrow.and_(arrow.equal(names["method"], method), arrow.equal(names["curve"], curve))
        rows = table.filter(arrow.and_(mask, is_ok))
        points = rows["points"].combine_chunks()
        yield (
            method,
            curve,
            rows["image_id"].to_numpy(),
            np.asarray(points.flatten()).reshape(len(rows), -1),
        )


SHADE = 0.15  # of a band, where there are few of them
BANDS = 4  # from here on each is fainter, so that together they stay lighter than the lines
MAX_MARKED = 12  # points of a curve that are marked


def draw_curves(run: RunFolder) -> Iterator[Figure | LeftOut]:
    """One figure for each curve with an axis in the manifest; nothing for a run without such."""
    axes = run.manifest.axes
    measured = mean_curves(run, axes)
    for name, axis in axes.items():
        label = str(axis.get("title", name))
        title = f"{label}: perturbation curves"
        curves = [
            curve
            for curve in measured
            if curve.curve == name and len(curve.mean) == len(axis["at"])
        ]
        if not curves:
            yield LeftOut(
                title,
                f"No method has the curve {name} on any image: the table of statuses says why.",
            )
            continue
        better = BETTER.get(str(axis.get("better")), "")
        counts = counts_text((curve.images for curve in curves), (curve.rows for curve in curves))
        caption = (
            f"Mean {axis['y']} against the {axis['x']}{better and f'; {better}'}; bands are 95 % "
            f"confidence intervals of the mean over rows, by image. {counts} a curve."
        )
        frame, plot = (
            _curves_frame(run, axis, curves, MAX_POINTS),
            partial(_plot_curves, run, axis, curves),
        )
        yield Figure(
            f"perturbation_{name}", title, caption, plot, chart=CURVES, label=label, frame=frame
        )


def _curves_frame(
    run: RunFolder, axis: Mapping[str, Any], curves: Sequence[MeanCurve], most: int
) -> pd.DataFrame:
    """A row for each point, of a curve at most so many, evenly."""
    at, x, parts = np.asarray(axis["at"], dtype=float), str(axis["x"]), []
    drawn = np.unique(np.linspace(0, len(at) - 1, most).round().astype(int))
    for curve in curves:
        half = np.nan_to_num(curve.half_width)  # without a band where there is one image
        numbers = {
            "Mean": curve.mean,
            "95 % interval from": curve.mean - half,
            "to": curve.mean + half,
        }
        numbers = {x[:1].upper() + x[1:]: at} | numbers
        about = {
            "Network": run.label(curve.setting),
            "Method": run.metadata.method_title(curve.method),
        }
        parts.append(
            pd.DataFrame(about | {name: column[drawn] for name, column in numbers.items()})
        )
    table = pd.concat(parts, ignore_index=True)
    spots = (table.groupby("Network").ngroup(), table.iloc[:, 2], table["Mean"])
    return table.assign(**{"Also here": at_same_spot(list(table["Method"]), *spots)})


def _plot_curves(run: RunFolder, axis: Mapping[str, Any], curves: Sequence[MeanCurve]) -> Canvas:
    styles = {
        name: style
        for name, style in method_styles(run).items()
        if name in {curve.method for curve in curves}
    }
    at, every, alpha = (
        axis["at"],
        -(-len(axis["at"]) // MAX_MARKED),
        SHADE * min(1, BANDS / len(styles)),
    )

    def fill(setting: Setting, axes: Any) -> None:
        for curve in (curve for curve in curves if curve.setting == setting):
            style = styles[curve.method]
            look = {
                "marker": style.marker,
                "markersize": 3,
                "markevery": every,
                "linestyle": style.linestyle,
            }
            axes.plot(at, curve.mean, label=style.title, color=style.colour, **look)
            low, high = curve.mean - curve.half_width, curve.mean + curve.half_width
            axes.fill_between(at, low, high, color=style.colour, alpha=alpha, linewidth=0)

    shown = {run.label(curve.setting): partial(fill, curve.setting) for curve in curves}
    figure = drawing.side_by_side(
        shown, [style.title for style in styles.values()], sharex=True, sharey=True
    )
    figure.supxlabel(axis["x"])
    better = BETTER.get(str(axis.get("better")), "")
    figure.supylabel(
        drawing.wrapped(f"Mean {axis['y']}{better and f', {better}'}", int(PANEL / LETTER))
    )
    return figure


BY_DEPTH = "Axiom errors by depth"
ORDER = "Layers in the order in which the network runs them"
DEPTH_CHART = Chart("by-depth", BY_DEPTH, "Error")
SPREAD = (
    30.0  # of the largest to the smallest median: from here on a linear axis hides the small ones
)
DEPTH_PANEL = 3.3  # inches: the width of a panel
LINE = 0.13  # inches: the height of a line of a legend


class Line(NamedTuple):
    """points: a row for each layer, with the columns Median, Lower quartile, Upper quartile, Rows
    and Images; NaN where nothing was measured.
    """

    style: MethodStyle
    points: pd.DataFrame

    def rows(self) -> pd.DataFrame:
        """As a reader sees them."""
        table = (
            self.points.dropna()
            .astype({"Rows": int, "Images": int})
            .rename_axis("Layer")
            .reset_index()
        )
        return pd.DataFrame({"Name": self.style.title, **table})


Lines = Mapping[str, Sequence[Line]]  # by the title of their panel


def draw_by_depth(run: RunFolder) -> Iterator[Figure | LeftOut]:
    """Two kinds of figures, a panel for each model and data set with several layers; nothing where
    none has several.

    The method-free errors of `config.report.figures.by_depth` together, with the band between the
    quartiles; and each of the errors of `plane`, a line for each method, one for methods that are
    the same at every layer.
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
            yield (
                labels[model, data],
                rows[(rows["model"] == model) & (rows["data"] == data)],
                names,
            )

    names = options_of(run).figures.by_depth
    free = run.records.rows(names)
    free = free[(free["status"] == OK) & (free["method"] == METHOD_FREE)]
    if free.empty:
        reasons = " ".join(drawing.not_measured(run, name) for name in names)
        yield LeftOut(BY_DEPTH, reasons or "report.figures.by_depth is empty.")
    else:
        lines = {label: _of_metrics(run, rows, at) for label, rows, at in at_places(free)}
        yield _depth_figure("by_depth", BY_DEPTH, "Error [ratio]", lines, free, bands=True)
    for name in options_of(run).figures.plane:
        rows = run.records.rows([name])
        rows = rows[(rows["status"] == OK) & (rows["method"] != METHOD_FREE)]
        if len(rows):
            value = run.metadata.value(name)
            lines = {label: _of_methods(run, own, at) for label, own, at in at_places(rows)}
            title, label = f"{value.title} by depth", axis_title(value, "Median")
            yield _depth_figure(f"by_depth_{name}", title, label, lines, rows, bands=False)


def _of_metrics(run: RunFolder, rows: pd.DataFrame, layers: Sequence[str]) -> list[Line]:
    lines = []
    names = (name for name in options_of(run).figures.by_depth if (rows["metric"] == name).any())
    for name, colour, marker in zip(names, COLOURS, MARKERS, strict=False):
        style = MethodStyle(run.metadata.value(name).title, colour, marker, (1, 0))
        lines.append(Line(style, _points(rows[rows["metric"] == name], layers)))
    return lines


def _of_methods(run: RunFolder, rows: pd.DataFrame, layers: Sequence[str]) -> list[Line]:
    """Methods whose medians are the same at every layer, but for rounding, share a line."""
    lines: list[Line] = []
    for method, style in method_styles(run).items():
        selected = rows[rows["method"] == method]
        if selected.empty:
            continue
        points = _points(selected, layers)
        for i, (other, own) in enumerate(lines):
            if np.allclose(
                own["Median"], points["Median"], rtol=1e-5, atol=FLOAT32_ROUNDING, equal_nan=True
            ):
                lines[i] = Line(replace(other, title=f"{other.title} = {style.title}"), own)
                break
        else:
            lines.append(Line(style, points))
    return lines


def _points(rows: pd.DataFrame, layers: Sequence[str]) -> pd.DataFrame:
    groups = rows.groupby("layer", observed=True)
    shares = {"Median": 0.5, "Lower quartile": 0.25, "Upper quartile": 0.75}
    table = (
        groups["value"]
        .quantile(np.array(list(shares.values())))
        .unstack()
        .set_axis(list(shares), axis=1)
    )
    table = table.assign(Rows=groups.size(), Images=groups["image_id"].nunique())
    return table.set_axis(table.index.astype(str)).reindex(list(layers))


def _depth_figure(
    name: str, title: str, label: str, lines: Lines, rows: pd.DataFrame, bands: bool
) -> Figure:
    clipped = any(
        is_clipped(line.points, _low_end_of(panel, bands)).any()
        for panel in lines.values()
        for line in panel
    )
    statistics = "medians, and the band between the quartiles" if bands else "medians"
    rounding = (
        " Open triangles: medians below 1e-6, which is rounding, on the axis's low end."
        if clipped
        else ""
    )
    counts = drawing.counts_by(rows, ["model", "data", "layer", "metric", "method"])
    caption = f"{ORDER}; {statistics}. {counts} a median.{rounding}"
    frame = drawing.by_network(
        {place: pd.concat([line.rows() for line in panel]) for place, panel in lines.items()}
    )
    plot = partial(_plot_by_depth, label, lines, bands)
    return Figure(
        name,
        title,
        caption,
        plot,
        chart=DEPTH_CHART,
        label=title,
        frame=frame.reset_index(drop=True),
    )


def _plot_by_depth(label: str, lines: Lines, bands: bool) -> Canvas:
    per_row = drawing.across(len(lines), PAGE, DEPTH_PANEL, DEPTH_PANEL)
    inches = min(DEPTH_PANEL, PAGE / per_row)
    labels = {
        at: [drawing.wrapped(line.style.title, int(inches / 0.075)) for line in lines[at]]
        for at in lines
    }
    legend = LINE * max(sum(1 + label.count("\n") for label in panel) for panel in labels.values())
    figure = drawing.canvas(inches * per_row, (2.2 + legend) * -(-len(lines) // per_row))
    for axes, (place, panel) in zip(
        drawing.panels(figure, len(lines), per_row), lines.items(), strict=True
    ):
        _fill_by_depth(axes, panel, bands)
        axes.set(ylabel=drawing.wrapped(label, 40))
        axes.legend(labels[place], loc="upper left", bbox_to_anchor=(-0.1, -0.32), borderaxespad=0)
        drawing.set_title(axes, place, inches)
    return figure


def _fill_by_depth(axes: Any, lines: Sequence[Line], bands: bool) -> None:
    low, layers = _low_end_of(lines, bands), list(lines[0].points.index)
    places = np.arange(len(layers))
    drawn = [line.points if low is None else line.points.clip(lower=low) for line in lines]
    for line, points in zip(lines, drawn, strict=True):  # first, so that the legend is theirs
        look = {
            "color": line.style.colour,
            "linestyle": line.style.linestyle,
            "marker": line.style.marker,
        }
        axes.plot(places, points["Median"], **look)
    for line, points in zip(lines, drawn, strict=True):
        if bands:
            ends = (points["Lower quartile"], points["Upper quartile"])
            axes.fill_between(places, *ends, color=line.style.colour, alpha=0.2, linewidth=0)
        below = is_clipped(line.points, low)
        look = {"color": line.style.colour, "markerfacecolor": "white", "markersize": 6}
        axes.plot(places[below], points["Median"][below], "v", **look)
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
    return low_end(
        points["Median"].to_numpy(), points["Lower quartile"].to_numpy() if bands else None
    )


def low_end(medians: np.ndarray, drawn: np.ndarray | None = None) -> float | None:
    """The low end of a logarithmic axis, a little below all that isn't rounding; None for a linear
    axis. drawn: what the axis shows besides the medians.
    """
    bulk = medians[medians >= FLOAT32_ROUNDING]
    if (medians < 0).any() or not len(bulk) or bulk.max() <= SPREAD * bulk.min():
        return None
    shown = bulk if drawn is None else drawn[drawn >= FLOAT32_ROUNDING]
    return float(max(shown.min() / 3, FLOAT32_ROUNDING))
