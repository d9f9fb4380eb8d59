"""Draw charts of lines.

Perturbation curves show the model's output against the share of pixels that is changed, with a line
per method. The charts by depth show the axiom errors of the layers themselves and of each method
(experiment `layers`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial, reduce
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as arrow
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import LogLocator
from numpy.typing import NDArray

from axiom_bench.columns import OK
from axiom_bench.records import reading
from axiom_bench.records.by_metric import count_images
from axiom_bench.records.entries import Free
from axiom_bench.report.charts import drawing
from axiom_bench.report.charts.drawing import SMALL, Chart, Figure, LeftOut
from axiom_bench.report.charts.styles import (
    BETTER,
    COLOURS,
    MARKERS,
    MethodStyle,
    axis_title,
    method_styles,
    titles_at_same_spot,
)
from axiom_bench.report.options import PAGE, options_of
from axiom_bench.statistics.bootstrap import Floats, normal_reach
from axiom_bench.statistics.labels import FLOAT32_ROUNDING, Setting, confidence, counts_text
from axiom_bench.statistics.run_folder import METHOD_FREE, RunFolder

CURVES = Chart("curves", "Perturbation curves", "Curve")
MAX_POINTS = 65  # points of a curve in the table of its numbers


class MeanCurve(NamedTuple):
    """The mean curve of one method in one setting.

    Attributes:
        setting: The setting.
        curve: The curve's name.
        method: The method's name.
        images: The number of images.
        rows: The number of rows, of which an image may have several.
        mean: The mean over the rows at each point, (n,).
        half_width: Half the width of the mean's confidence interval by image at each point,
            (n,) (see `summary.summarise`). NaN for one image.
    """

    setting: Setting
    curve: str
    method: str
    images: int
    rows: int
    mean: Floats
    half_width: Floats


class FileSums(NamedTuple):
    """The sums over a file's images that a mean curve and its error need. They add up over files,
    so that the curves of a large run are never all in memory.

    Image i has n_i rows, whose sum at a point is T_i. All rows of an image are in one file.
    """

    images: int
    rows: int
    """The sum of n_i."""
    squared_rows: int
    """The sum of n_i^2."""
    total: Floats
    """(n,) at each point, the sum of T_i."""
    squared: Floats
    """(n,) the sum of T_i^2."""
    crossed: Floats
    """(n,) the sum of T_i n_i."""

    def plus(self, other: FileSums) -> FileSums:
        """Return the sums over the images of both files."""
        return FileSums(
            images=self.images + other.images,
            rows=self.rows + other.rows,
            squared_rows=self.squared_rows + other.squared_rows,
            total=self.total + other.total,
            squared=self.squared + other.squared,
            crossed=self.crossed + other.crossed,
        )


def mean_curves(run: RunFolder, names: Iterable[str]) -> list[MeanCurve]:
    """Return the mean curves of a run. Only rows with status "ok" count.

    Args:
        run: The run.
        names: The names of the curves.

    Returns:
        The mean curves, in the order of the run's settings, of `names` and of the run's methods.

    Raises:
        BenchError: If a file can't be read.
    """
    names = list(names)
    sums_of_files: dict[tuple[Setting, str, str], list[FileSums]] = defaultdict(list)
    for part in reading.read_curves(run.path, run.manifest, names) if names else ():
        setting = Setting(part.model, part.layer, part.data)
        for method, curve, image_ids, points in _groups(part.table):
            sums_of_files[setting, curve, method].append(_sums(image_ids, points))
    orders = (run.settings, names, list(run.manifest.methods))

    def position(key: tuple[Setting, str, str]) -> list[int]:
        return [
            order.index(name) if name in order else len(order)
            for name, order in zip(key, orders, strict=True)
        ]

    curves = []
    for key in sorted(sums_of_files, key=position):
        sums = reduce(FileSums.plus, sums_of_files[key])
        mean = sums.total / sums.rows
        # The sum over images of (T_i - n_i mean)^2, which rounding may make negative.
        cross_term = 2 * mean * sums.crossed
        squares = np.clip(sums.squared - cross_term + mean**2 * sums.squared_rows, 0, None)
        with np.errstate(invalid="ignore", divide="ignore"):
            factor = np.float64(sums.images) / (sums.images - 1)
            error = np.sqrt(factor * squares) / sums.rows
        half_width = normal_reach(run.level) * error
        curves.append(MeanCurve(*key, sums.images, sums.rows, mean, half_width))
    return curves


def _sums(image_ids: NDArray[np.object_], points: Floats) -> FileSums:
    """Return the sums of a file's rows, whose points are (N, n)."""
    _, image = np.unique(image_ids, return_inverse=True)
    num_rows = np.bincount(image)
    totals = np.zeros((len(num_rows), points.shape[1]))
    np.add.at(totals, image, points)
    return FileSums(
        images=len(num_rows),
        rows=len(points),
        squared_rows=int((num_rows**2).sum()),
        total=totals.sum(0),
        squared=(totals**2).sum(0),
        crossed=num_rows @ totals,
    )


def _groups(table: pa.Table) -> Iterator[tuple[str, str, NDArray[np.object_], Floats]]:
    """Yield the method, curve, image ids (N,) and points (N, n) of the rows with status "ok"."""
    schema = pa.schema([("method", pa.string()), ("curve", pa.string())])
    names = table.select(["method", "curve"]).cast(schema)
    is_ok = arrow.equal(table["status"].cast(pa.string()), OK)
    for method, curve in pd.MultiIndex.from_frame(names.filter(is_ok).to_pandas()).unique():
        is_method = arrow.equal(names["method"], method)
        is_curve = arrow.equal(names["curve"], curve)
        rows = table.filter(arrow.and_(arrow.and_(is_method, is_curve), is_ok))
        points = np.asarray(rows["points"].combine_chunks().flatten())
        yield method, curve, rows["image_id"].to_numpy(), points.reshape(len(rows), -1)


SHADE = 0.15  # the opacity of a band if there are few
BANDS = 4  # more bands are fainter, so that together they stay lighter than the lines
MAX_MARKED = 12  # points of a curve that are marked


def draw_curves(run: RunFolder) -> Iterator[Figure | LeftOut]:
    """Yield a figure for each curve with an axis in the manifest."""
    axes = run.manifest.axes
    measured = mean_curves(run, axes)
    for name, axis in axes.items():
        label = str(axis.get("title", name))
        title = f"{label}: perturbation curves"
        curves = []
        for curve in measured:
            # of combined runs, one may have measured the curve at other points than the axis has
            if curve.curve == name and len(curve.mean) == len(axis["at"]):
                curves.append(curve)
        if not curves:
            reason = f"No method has the curve {name} on any image: the table of statuses says why."
            yield LeftOut(title, reason)
            continue
        better = BETTER.get(str(axis.get("better")), "")
        direction = f"; {better}" if better else ""
        counts = counts_text((curve.images for curve in curves), (curve.rows for curve in curves))
        caption = (
            f"Mean {axis['y']} against the {axis['x']}{direction}; bands are "
            f"{confidence(run.level)} confidence intervals of the mean over rows, by image. "
            f"{counts} a curve."
        )
        yield Figure(
            name=f"perturbation_{name}",
            title=title,
            caption=caption,
            plot=partial(_plot_curves, run, axis, curves),
            chart=CURVES,
            label=label,
            frame=_curves_frame(run, axis, curves),
        )


def _curves_frame(run: RunFolder, axis: Free, curves: Sequence[MeanCurve]) -> pd.DataFrame:
    """Return a table with at most MAX_POINTS points of each curve, evenly spaced."""
    x = np.asarray(axis["at"], dtype=float)
    x_title = str(axis["x"])
    x_title = x_title[:1].upper() + x_title[1:]
    indices = np.unique(np.linspace(0, len(x) - 1, MAX_POINTS).round().astype(int))
    parts = []
    for curve in curves:
        half_width = np.nan_to_num(curve.half_width)  # one image has no band
        columns = {
            "Network": run.label(curve.setting),
            "Method": run.metadata.method_title(curve.method),
            x_title: x[indices],
            "Mean": curve.mean[indices],
            f"{confidence(run.level)} interval from": (curve.mean - half_width)[indices],
            "to": (curve.mean + half_width)[indices],
        }
        parts.append(pd.DataFrame(columns))
    table = pd.concat(parts, ignore_index=True)
    network = table.groupby("Network").ngroup()
    table["Also here"] = titles_at_same_spot(
        list(table["Method"]), network, table.iloc[:, 2], table["Mean"]
    )
    return table


def _plot_curves(run: RunFolder, axis: Free, curves: Sequence[MeanCurve]) -> Canvas:
    """Draw a panel per setting, with a line and a band per method."""
    methods = {curve.method for curve in curves}
    styles = {name: style for name, style in method_styles(run).items() if name in methods}
    x = axis["at"]
    mark_every = -(-len(x) // MAX_MARKED)
    # many bands on each other stay lighter than the lines
    alpha = SHADE * min(1, BANDS / len(styles))

    def fill(setting: Setting, axes: Axes) -> None:
        for curve in curves:
            if curve.setting != setting:
                continue
            style = styles[curve.method]
            axes.plot(
                x,
                curve.mean,
                label=style.title,
                color=style.colour,
                marker=style.marker,
                markersize=3,
                markevery=mark_every,
                linestyle=style.linestyle,
            )
            low = curve.mean - curve.half_width
            high = curve.mean + curve.half_width
            axes.fill_between(x, low, high, color=style.colour, alpha=alpha, linewidth=0)

    panels = {run.label(curve.setting): partial(fill, curve.setting) for curve in curves}
    titles = [style.title for style in styles.values()]
    figure = drawing.side_by_side(panels, titles, sharex=True, sharey=True)
    figure.supxlabel(axis["x"])
    y_title = f"Mean {axis['y']}"
    if better := BETTER.get(str(axis.get("better")), ""):
        y_title = f"{y_title}, {better}"
    drawing.label_y(figure, y_title)
    return figure


BY_DEPTH = "Axiom errors by depth"
ORDER = "Layers in the order in which the network runs them"
DEPTH_CHART = Chart("by-depth", BY_DEPTH, "Error")
# If the largest median is so many times the smallest, a linear axis hides the small medians.
SPREAD = 30.0
DEPTH_PANEL = 3.3  # inches: the width of a panel
LINE = 0.13  # inches: the height of a line of a legend


class Line(NamedTuple):
    """A line of a chart by depth.

    Attributes:
        style: The look and the title.
        points: A row per layer, with the columns Median, Lower quartile, Upper quartile, Rows and
            Images; NaN if nothing was measured.
    """

    style: MethodStyle
    points: pd.DataFrame

    def rows(self) -> pd.DataFrame:
        """Return the line's rows in the table below the chart."""
        points = self.points.dropna().astype({"Rows": int, "Images": int})
        table = points.rename_axis("Layer").reset_index()
        return pd.DataFrame({"Name": self.style.title, **table})


Lines = Mapping[str, Sequence[Line]]  # {title of a panel: its lines}


def draw_by_depth(run: RunFolder) -> Iterator[Figure | LeftOut]:
    """Yield two kinds of figures, with a panel for each model and data set with several layers.

    The first figure shows the method-free errors of `config.report.figures.by_depth` together, with
    the band between the quartiles. Then a figure shows each of the errors of `plane`, with a line
    per method. Methods that are the same at every layer share a line.
    """
    layers_by_place: dict[tuple[str, str], list[str]] = {}
    for setting in run.settings:
        layers_by_place.setdefault((setting.model, setting.data), []).append(setting.layer)
    layers_by_place = {
        place: layers for place, layers in layers_by_place.items() if len(layers) > 1
    }
    if not layers_by_place:
        return
    # panels have the name of a data set only if there are several
    has_one_data_set = len({data for _, data in layers_by_place}) == 1

    def panel_rows(rows: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame, list[str]]]:
        """Yield the title, the rows and the layers of each panel that has rows."""
        for (model, data), layers in layers_by_place.items():
            title = model if has_one_data_set else f"{model} ({data})"
            panel = rows[(rows["model"] == model) & (rows["data"] == data)]
            if len(panel):
                yield title, panel, layers

    names = options_of(run).figures.by_depth
    rows = run.records.rows(names)
    rows = rows[(rows["status"] == OK) & (rows["method"] == METHOD_FREE)]
    if rows.empty:
        reasons = " ".join(drawing.reason_without_value(run, name) for name in names)
        yield LeftOut(BY_DEPTH, reasons or "report.figures.by_depth is empty.")
    else:
        lines = {
            title: _lines_of_metrics(run, panel, layers)
            for title, panel, layers in panel_rows(rows)
        }
        if lines:
            yield _depth_figure("by_depth", BY_DEPTH, "Error [ratio]", lines, rows, has_bands=True)
        else:
            reason = f"No model with several layers has values of {' and '.join(names)}."
            yield LeftOut(BY_DEPTH, reason)
    for name in options_of(run).figures.plane:
        rows = run.records.rows([name])
        rows = rows[(rows["status"] == OK) & (rows["method"] != METHOD_FREE)]
        if len(rows):
            value = run.metadata.value(name)
            lines = {
                title: _lines_of_methods(run, panel, layers)
                for title, panel, layers in panel_rows(rows)
            }
            title = f"{value.title} by depth"
            label = axis_title(value, "Median")
            if lines:
                yield _depth_figure(f"by_depth_{name}", title, label, lines, rows, has_bands=False)


def _lines_of_metrics(run: RunFolder, rows: pd.DataFrame, layers: Sequence[str]) -> list[Line]:
    """Return a line for each error of `config.report.figures.by_depth` that has rows."""
    lines = []
    names = [name for name in options_of(run).figures.by_depth if (rows["metric"] == name).any()]
    for name, colour, marker in zip(names, COLOURS, MARKERS, strict=False):
        style = MethodStyle(run.metadata.value(name).title, colour, marker, (1, 0))
        lines.append(Line(style, _points(rows[rows["metric"] == name], layers)))
    return lines


def _lines_of_methods(run: RunFolder, rows: pd.DataFrame, layers: Sequence[str]) -> list[Line]:
    """Return a line for each method. Methods whose medians are the same at every layer, except for
    rounding, share a line.
    """
    lines: list[Line] = []
    for method, style in method_styles(run).items():
        method_rows = rows[rows["method"] == method]
        if method_rows.empty:
            continue
        points = _points(method_rows, layers)
        for number, line in enumerate(lines):
            is_same = np.allclose(
                line.points["Median"],
                points["Median"],
                rtol=1e-5,
                atol=FLOAT32_ROUNDING,
                equal_nan=True,
            )
            if is_same:
                title = f"{line.style.title} = {style.title}"
                lines[number] = Line(replace(line.style, title=title), line.points)
                break
        else:
            lines.append(Line(style, points))
    return lines


def _points(rows: pd.DataFrame, layers: Sequence[str]) -> pd.DataFrame:
    """Return the points of a line (see `Line.points`)."""
    groups = rows.groupby("layer", observed=True)
    shares = {"Median": 0.5, "Lower quartile": 0.25, "Upper quartile": 0.75}
    quantiles = groups["value"].quantile(np.array(list(shares.values())))
    table = quantiles.unstack().set_axis(list(shares), axis=1)
    images = {layer: count_images(ids) for layer, ids in groups["image_id"]}
    table = table.assign(Rows=groups.size(), Images=pd.Series(images))
    return table.set_axis(table.index.astype(str)).reindex(list(layers))


def _depth_figure(
    name: str,
    title: str,
    label: str,
    lines: Lines,
    rows: pd.DataFrame,
    has_bands: bool,
) -> Figure:
    """Return a figure by depth. `label` is the title of the axis of errors, and `rows` are the
    records that the caption counts.
    """
    statistics = "medians, and the band between the quartiles" if has_bands else "medians"
    counts = drawing.counts_by(rows, ["model", "data", "layer", "metric", "method"])
    caption = f"{ORDER}; {statistics}. {counts} a median."
    # only a figure that has open triangles explains them
    has_clipped = False
    for panel in lines.values():
        low = _low_end_of(panel, has_bands)
        has_clipped |= any(is_clipped(line.points, low).any() for line in panel)
    if has_clipped:
        caption += " Open triangles: medians below 1e-6, which is rounding, on the axis's low end."
    frames = {title: pd.concat([line.rows() for line in panel]) for title, panel in lines.items()}
    frame = drawing.join_frames(frames)
    return Figure(
        name=name,
        title=title,
        caption=caption,
        plot=partial(_plot_by_depth, label, lines, has_bands),
        chart=DEPTH_CHART,
        label=title,
        frame=frame.reset_index(drop=True),
    )


def _plot_by_depth(label: str, lines: Lines, has_bands: bool) -> Canvas:
    """Draw a panel per model and data set, each with its legend below it."""
    per_row = drawing.panels_per_row(len(lines), PAGE, DEPTH_PANEL, DEPTH_PANEL)
    width = min(DEPTH_PANEL, PAGE / per_row)
    labels = {}
    most_lines = 0
    for place, panel in lines.items():
        labels[place] = [drawing.wrap_name(line.style.title, int(width / 0.075)) for line in panel]
        num_lines = sum(1 + text.count("\n") for text in labels[place])
        most_lines = max(most_lines, num_lines)
    height = 2.2 + LINE * most_lines
    figure = drawing.canvas(width * per_row, height * -(-len(lines) // per_row))
    all_axes = drawing.panels(figure, len(lines), per_row)
    for axes, (place, panel) in zip(all_axes, lines.items(), strict=True):
        _fill_by_depth(axes, panel, has_bands)
        axes.legend(labels[place], loc="upper left", bbox_to_anchor=(-0.1, -0.32), borderaxespad=0)
        drawing.set_title(axes, place, width)
    drawing.label_y(figure, label)
    return figure


def _fill_by_depth(axes: Axes, lines: Sequence[Line], has_bands: bool) -> None:
    """Draw the lines of a panel, with their bands if `has_bands`."""
    low = _low_end_of(lines, has_bands)
    layers = list(lines[0].points.index)
    x = np.arange(len(layers))
    points_by_line = [line.points if low is None else line.points.clip(lower=low) for line in lines]
    # All lines are drawn first, since the legend has the first artists.
    for line, points in zip(lines, points_by_line, strict=True):
        axes.plot(
            x,
            points["Median"],
            color=line.style.colour,
            linestyle=line.style.linestyle,
            marker=line.style.marker,
        )
    for line, points in zip(lines, points_by_line, strict=True):
        colour = line.style.colour
        if has_bands:
            lower = points["Lower quartile"]
            upper = points["Upper quartile"]
            axes.fill_between(x, lower, upper, color=colour, alpha=0.2, linewidth=0)
        is_below = is_clipped(line.points, low)
        medians = points["Median"][is_below]
        axes.plot(x[is_below], medians, "v", color=colour, markerfacecolor="white", markersize=6)
    if low is not None:
        axes.set_yscale("log")
        axes.set_ylim(bottom=low / 1.3)
        axes.yaxis.set_major_locator(LogLocator(numticks=7))
    elif not any((line.points["Median"] < 0).any() for line in lines):
        top = axes.get_ylim()[1]
        axes.set_ylim(-0.03 * top, top)  # a marker at 0 isn't cut
    axes.set_xticks(x, layers, rotation=40, ha="right", rotation_mode="anchor", fontsize=SMALL)


def is_clipped(points: pd.DataFrame, low: float | None) -> NDArray[np.bool_]:
    """Return which medians of a line lie below the low end of a logarithmic axis, (layers,)."""
    return (points["Median"].to_numpy() < FLOAT32_ROUNDING) & (low is not None)


def _low_end_of(lines: Sequence[Line], has_bands: bool) -> float | None:
    """Return the low end of the axis of a panel's errors (see `low_end`)."""
    points = pd.concat([line.points for line in lines])
    quartiles = points["Lower quartile"].to_numpy() if has_bands else None
    return low_end(points["Median"].to_numpy(), quartiles)


def low_end(medians: Floats, drawn: Floats | None = None) -> float | None:
    """Return the low end of a logarithmic axis, a little below all values that aren't rounding.

    Args:
        medians: The medians.
        drawn: Lower values that the axis also shows.

    Returns:
        The low end; None if the axis is linear.
    """
    bulk = medians[medians >= FLOAT32_ROUNDING]
    if (medians < 0).any() or not len(bulk) or bulk.max() <= SPREAD * bulk.min():
        return None
    shown = bulk if drawn is None else drawn[drawn >= FLOAT32_ROUNDING]
    return float(max(shown.min() / 3, FLOAT32_ROUNDING))
