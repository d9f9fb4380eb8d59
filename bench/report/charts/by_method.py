"""Draw box-plots: each metric by method, and the errors of networks, which have no method."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import NamedTuple, TypedDict

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray

from axiom_bench.records.by_metric import image_numbers
from axiom_bench.report.charts import drawing
from axiom_bench.report.charts.drawing import LETTER, PANEL, Chart, Figure, LeftOut, join_frames
from axiom_bench.report.charts.styles import GREY, INK, axis_title, method_styles, metrics_in_order
from axiom_bench.report.options import PAGE, options_of
from axiom_bench.report.shown import methods_in_order
from axiom_bench.report.tables.text import reason
from axiom_bench.statistics.bootstrap import Floats
from axiom_bench.statistics.labels import (
    FLOAT32_ROUNDING,
    Setting,
    Value,
    counts_text,
    number,
    share,
)
from axiom_bench.statistics.run_folder import METHOD_FREE, RunFolder


class BoxGroup(NamedTuple):
    """The values of a box.

    Attributes:
        values: The values of single images with status ok, (rows,), in the records' order. There is
            at least one.
        images: The number of images that have these values.
    """

    values: Floats
    images: int


def values_by_box(
    run: RunFolder, metric: str, methods: Collection[str]
) -> dict[Setting, dict[str, BoxGroup]]:
    """Return the values of each box of a metric.

    Args:
        run: The run.
        metric: The name of the metric's value.
        methods: The methods that have boxes.

    Returns:
        {setting: {method: its values}}, with settings in the run's order and methods in the
        records'. A method without a value is left out.
    """
    records = run.records
    if metric not in records.blocks:
        return {}
    block = records.blocks[metric]
    image = image_numbers(records.keys["image_id"])
    is_chosen = np.array([name in methods for name in records.methods])
    is_ok = block.statuses == records.ok
    is_single = ~records.is_whole_set[block.keys]
    block = block.select(is_ok & is_single & is_chosen[block.methods])
    # Rows are sorted by a code that joins the numbers of their setting and method.
    setting = records.keys.groupby(list(Setting._fields), observed=True).ngroup().to_numpy()
    code = setting[block.keys] * len(records.methods) + block.methods
    is_small = len(run.settings) * len(records.methods) <= np.iinfo(np.int16).max
    # small numbers are sorted in linear time
    order = np.argsort(code.astype(np.int16) if is_small else code, kind="stable")
    starts = np.flatnonzero(np.diff(code[order], prepend=-1))
    groups: dict[Setting, dict[str, BoxGroup]] = {}
    for rows in np.split(order, starts[1:]) if len(order) else ():
        number, method = divmod(int(code[rows[0]]), len(records.methods))
        num_images = int(np.count_nonzero(np.bincount(image[block.keys[rows]])))
        group = BoxGroup(block.values[rows], num_images)
        groups.setdefault(run.settings[number], {})[records.methods[method]] = group
    return groups


def counts_of_boxes(groups: Iterable[BoxGroup]) -> str:
    """Return the fewest and the most images and rows of the groups, such as "n = 60 to 64 images,
    112 to 120 rows".
    """
    counts = [(group.images, len(group.values)) for group in groups]
    return counts_text(*zip(*counts, strict=True))


# If the largest value is so many times the smallest median, a linear axis squeezes a box into a
# line.
LOG_SPREAD = 30.0
MAX_ZEROS = 0.05  # a logarithmic axis, which can't show 0, has at most this share of values at 0
FENCE = 3.0  # interquartile ranges beyond the quartiles: far out, after Tukey


@dataclass(frozen=True)
class Axis:
    """The range of values that an axis shows.

    Attributes:
        low: The lower limit.
        high: The upper limit.
        log: The axis is logarithmic. Values below its lower limit are drawn on the limit.
        outside: The number of values that the limits of a linear axis cut off, or that lie below
            the lower limit of a logarithmic axis.
        count: The number of all values.
    """

    low: float
    high: float
    is_log: bool
    num_outside: int
    count: int

    @property
    def note(self) -> str:
        """The axis's sentence in the caption; "" if a linear axis shows all values."""
        outside = (
            f"{self.num_outside:,} of {self.count:,} values ({share(self.num_outside, self.count)})"
        )
        if self.is_log:
            if not self.num_outside:
                return "Logarithmic axis."
            return f"Logarithmic axis; {outside} below its low end are drawn there."
        return f"{outside} lie outside the axis; the boxes count them." if self.num_outside else ""

    def clip(self, values: Floats) -> Floats:
        """Return the places of values on the axis: a logarithmic axis can't show 0."""
        return np.maximum(values, self.low) if self.is_log else values


def fit_axis(groups: Sequence[Floats]) -> Axis:
    """Return the axis for box-plots of these groups of values.

    The axis shows all values if their tails are short. Otherwise it is logarithmic if the values
    spread wide and few of them are rounding. Otherwise it is cut at FENCE interquartile ranges
    around the groups' quartiles.

    Args:
        groups: The values of each box, (rows,).
    """
    groups = [np.sort(group) for group in groups if len(group)]
    low = float(min(group[0] for group in groups))
    high = float(max(group[-1] for group in groups))
    count = sum(map(len, groups))

    def count_below(limit: float) -> int:
        return sum(int(np.searchsorted(group, limit)) for group in groups)

    if low >= 0 and high < FLOAT32_ROUNDING:
        return Axis(0.0, FLOAT32_ROUNDING, False, 0, count)
    quartiles = np.array([np.quantile(group, [0.25, 0.5, 0.75]) for group in groups])
    # The smallest of the groups' quartiles that isn't rounding, or NaN: of each of the three.
    smallest = np.fmin.reduce(np.where(quartiles >= FLOAT32_ROUNDING, quartiles, np.nan))
    bulk = [group[np.searchsorted(group, FLOAT32_ROUNDING) :] for group in groups]
    num_zeros = count - sum(map(len, bulk))
    has_few_zeros = num_zeros <= MAX_ZEROS * count
    if low >= 0 and high > LOG_SPREAD * smallest[1] and has_few_zeros:
        bottom = float(max(min(group[0] for group in bulk if len(group)), smallest[0] / LOG_SPREAD))
        return Axis(bottom, high, True, count_below(bottom), count)
    reach = FENCE * (quartiles[:, 2] - quartiles[:, 0])
    low = max(low, float((quartiles[:, 0] - reach).min()))
    high = min(high, float((quartiles[:, 2] + reach).max()))
    count_above = sum(len(group) - int(np.searchsorted(group, high, "right")) for group in groups)
    return Axis(low, high, False, count_below(low) + count_above, count)


def apply_axis(axis: Axis, axes: Axes) -> None:
    """Set the scale and the limits of x, with a margin so that no whisker lies on the frame."""
    if axis.is_log:
        axes.set_xscale("log")
        axes.set_xlim(axis.low / 1.3, axis.high * 1.3)
        axes.xaxis.set_major_locator(LogLocator(numticks=5))
        if axis.high > 10 * axis.low:
            # minor ticks would have no labels, and the style draws no ticks
            axes.xaxis.set_minor_locator(NullLocator())
    else:
        margin = 0.04 * (axis.high - axis.low) or 0.5 * abs(axis.high) or 0.5
        axes.set_xlim(axis.low - margin, axis.high + margin)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 5, 10]))


WHISKER = 1.5  # interquartile ranges beyond the quartiles (Tukey)
# The maximum number of points beyond the whiskers of a box that are drawn, since the page of 50,000
# images must stay small.
MAX_OUTSIDE = 20


BoxRow = TypedDict(  # a box's row in the table below the chart, by the headings of the columns
    "BoxRow",
    {
        "Name": str,
        "Rows": int,
        "Images": int,
        "Median": float,
        "Lower quartile": float,
        "Upper quartile": float,
        "Lower whisker": float,
        "Upper whisker": float,
        "Mean": float,
    },
)


def boxes_row(name: str, group: BoxGroup) -> BoxRow:
    """Return the row of a box in the table below the chart: its counts and its numbers.

    The whiskers reach to the last value within WHISKER interquartile ranges of the quartiles.
    """
    values = group.values
    q1, median, q3 = np.quantile(values, [0.25, 0.5, 0.75]).tolist()
    reach = WHISKER * (q3 - q1)
    within = values[(values >= q1 - reach) & (values <= q3 + reach)]
    return {
        "Name": name,
        "Rows": len(values),
        "Images": group.images,
        "Median": median,
        "Lower quartile": q1,
        "Upper quartile": q3,
        "Lower whisker": float(within.min()),
        "Upper whisker": float(within.max()),
        "Mean": float(values.mean()),
    }


def farthest_outside(values: Floats, box: BoxRow, axis: Axis) -> NDArray[np.int_]:
    """Return the indices of the values beyond the whiskers that are drawn as points.

    They are the MAX_OUTSIDE values that are farthest from the median, among those on the axis.

    Args:
        values: The values of a box, (rows,).
        box: The box's row.
        axis: The axis of the chart.
    """
    is_on_axis = axis.is_log | ((values >= axis.low) & (values <= axis.high))
    is_outside = (values < box["Lower whisker"]) | (values > box["Upper whisker"])
    outside = np.flatnonzero(is_outside & is_on_axis)
    distance = np.abs(values[outside] - box["Median"])
    return outside[np.argsort(-distance, kind="stable")[:MAX_OUTSIDE]]


FACE = 0.35  # the opacity of a box
BOX = 0.3  # half of the height of a box
CAP = 0.15  # half of the height of a whisker's cap
WIDTH = 0.8  # points: the lines of boxes and whiskers


class Box(NamedTuple):
    """A box of a panel.

    Attributes:
        place: The place in the panel, from the top down.
        group: The values.
        row: The row in the table below the chart.
        colour: The colour.
        method: The method, or the network if the errors don't depend on a method.
    """

    place: int
    group: BoxGroup
    row: BoxRow
    colour: str
    method: str


def draw_boxes(axes: Axes, boxes: Sequence[Box], axis: Axis) -> None:
    """Draw the boxes of a panel, which lie below each other.

    Diamonds are means, and points are the values farthest beyond the whiskers. All boxes are one
    artist of matplotlib, and so are all whiskers: the eight artists per box of `Axes.boxplot` took
    most of a figure's time.
    """
    if not boxes:
        return
    rows = pd.DataFrame([box.row for box in boxes])
    # the last six columns of `BoxRow`
    median, q1, q3, low, high, mean = axis.clip(rows.iloc[:, -6:].to_numpy(float)).T
    low = np.minimum(low, q1)
    high = np.maximum(high, q3)
    y = np.array([box.place for box in boxes], dtype=float)
    colours = [box.colour for box in boxes]

    def paths(*points: tuple[Floats, Floats]) -> list[Floats]:
        """Return the path of each box through these points, (points, 2)."""
        return list(np.stack([np.stack(point, axis=-1) for point in points], axis=1))

    faces = PolyCollection(
        paths((q1, y - BOX), (q1, y + BOX), (q3, y + BOX), (q3, y - BOX)),
        facecolors=[(colour, FACE) for colour in colours],
        edgecolors=colours,
        joinstyle="miter",
        linewidths=WIDTH,
        zorder=2,
    )
    whiskers = paths((q1, y), (low, y)) + paths((q3, y), (high, y))
    low_caps = paths((low, y - CAP), (low, y + CAP))
    high_caps = paths((high, y - CAP), (high, y + CAP))
    lines = LineCollection(
        whiskers + low_caps + high_caps,
        colors=4 * colours,
        capstyle="round",
        linewidths=WIDTH,
        zorder=2,
    )
    medians = LineCollection(
        paths((median, y - BOX), (median, y + BOX)), colors=INK, linewidths=1.2, zorder=2.1
    )
    for artist in (faces, lines, medians):
        axes.add_collection(artist, autolim=False)
    is_shown = (mean >= axis.low) & (mean <= axis.high)
    axes.plot(
        mean[is_shown],
        y[is_shown],
        linestyle="none",
        zorder=2.1,
        marker="D",
        markersize=2.5,
        markerfacecolor="white",
        markeredgecolor=INK,
        markeredgewidth=0.7,
    )
    values = []
    places = []
    for box in boxes:
        indices = farthest_outside(box.group.values, box.row, axis)
        values.append(box.group.values[indices])
        places += [box.place] * len(indices)
    axes.plot(
        axis.clip(np.concatenate(values)),
        places,
        linestyle="none",
        zorder=2,
        marker="o",
        markersize=2,
        alpha=0.6,
        markerfacecolor=GREY,
        markeredgewidth=0,
    )


BY_METHOD = Chart("by-method", "Each metric by method", "Metric")
BY_NETWORK = Chart("by-network", "Method-free errors by network", "Error")
Groups = Mapping[str, BoxGroup]  # the values of each box, by its method or network


def draw(run: RunFolder) -> Iterator[Figure | LeftOut]:
    """Yield a figure for each metric that measures methods."""
    defined = run.records.metrics_with_images(METHOD_FREE, with_value=True)
    names = metrics_in_order(run, run.records.metrics_with_images(METHOD_FREE))
    for name in drawing.most_comparable_first(run, names):
        value = run.metadata.value(name)
        title = f"{value.title} by method"
        if name not in defined:
            yield LeftOut(title, drawing.reason_without_value(run, name))
            continue
        settings, note_on_others = drawing.settings_that_differ(run, name)
        groups_by_setting = values_by_box(run, name, run.methods)
        panels = {
            run.label(setting): groups_by_setting[setting]
            for setting in settings
            if setting in groups_by_setting
        }
        if not panels:
            yield LeftOut(title, note_on_others)
            continue
        counts = counts_of_boxes(group for panel in panels.values() for group in panel.values())
        direction = f", {value.better} is better" if value.has_direction else ""
        # a method that no panel shows has no line in the panels
        drawn_methods = {method for panel in panels.values() for method in panel}
        styles = method_styles(run)
        first_setting = next(setting for setting in settings if setting in groups_by_setting)
        looks = {}
        for method in methods_in_order(run, first_setting):
            if method in drawn_methods:
                style = styles[method]
                looks[method] = Look(style.title, style.title, style.colour)
        with_value = {method for groups in groups_by_setting.values() for method in groups}
        sentences = [
            f"{value.title} by method{direction}; {counts} in a box; diamonds are means.",
            note_on_others,
            _note_on_missing(run, name, with_value),
        ]
        yield _figure(
            chart=BY_METHOD,
            name=f"by_method_{name}",
            title=title,
            value=value,
            panels=panels,
            looks=looks,
            caption=" ".join(filter(None, sentences)),
        )


def _note_on_missing(run: RunFolder, metric: str, with_value: Collection[str]) -> str:
    """Return a sentence with the methods that were measured and have no value, and the reasons;
    "" if there are none.
    """
    records = run.records
    block = records.blocks[metric]
    block = block.select(~records.is_whole_set[block.keys])
    measured = {records.methods[code] for code in np.unique(block.methods)} - {*with_value}
    missing = [method for method in run.methods if method in measured]
    if not missing:
        return ""
    codes = np.unique(block.statuses[np.isin(records.methods, missing)[block.methods]])
    titles = ", ".join(map(run.metadata.method_title, missing))
    statuses = sorted(records.statuses[code] for code in codes)
    reasons = "; ".join(map(reason, statuses))
    return f"Without a value: {titles} ({reasons})."


def draw_networks(run: RunFolder) -> Iterator[Figure | LeftOut]:
    """Yield a figure for each metric of `config.report.figures.over_models`."""
    for name in options_of(run).figures.over_models:
        value = run.metadata.value(name)
        title = f"{value.title} over models"
        file_name = f"over_models_{name}"
        groups = {
            run.label(setting): group_by_method[METHOD_FREE]
            for setting, group_by_method in values_by_box(run, name, (METHOD_FREE,)).items()
        }
        if not groups:
            yield LeftOut(title, drawing.reason_without_value(run, name), file_name)
            continue
        # boxes of rounding would seem to rank networks
        largest = max(float(np.abs(group.values).max()) for group in groups.values())
        if largest < FLOAT32_ROUNDING:
            yield LeftOut(title, "All values are 0 up to rounding.", file_name)
            continue
        counts = ", ".join(f"{label} {counts_of_boxes([group])}" for label, group in groups.items())
        caption = (
            f"{value.title} over models, one value for each image and explained class; diamonds "
            f"are means. {counts}."
        )
        looks = {}
        for label, group in groups.items():
            tick = f"{label}: mean {number(float(group.values.mean()))}"
            looks[label] = Look(label, tick, drawing.MUTED, letters=30)
        yield _figure(
            chart=BY_NETWORK,
            name=file_name,
            title=title,
            value=value,
            panels={"": groups},
            looks=looks,
            caption=caption,
        )


class Look(NamedTuple):
    """The look of a box.

    Attributes:
        title: The name in the table below the chart.
        tick: The text on the left of the box.
        colour: The colour.
        letters: The maximum number of letters of a line of the text.
    """

    title: str
    tick: str
    colour: str
    letters: int = 16


def _figure(
    chart: Chart,
    name: str,
    title: str,
    value: Value,
    panels: Mapping[str, Groups],
    looks: Mapping[str, Look],
    caption: str,
) -> Figure:
    """Return a figure of box-plots.

    Args:
        chart: The place in the page.
        name: The name of the files.
        title: The title.
        value: The metric that is drawn.
        panels: The values of the boxes of each panel, by its title.
        looks: The look of each box by its name, from the top down.
        caption: The caption, to which sentences on values that aren't drawn are added.
    """
    all_values = [group.values for panel in panels.values() for group in panel.values()]
    axis = fit_axis(all_values)
    boxes_by_panel: dict[str, list[Box]] = {}
    frames = {}
    at_zero = []
    for panel, groups in panels.items():
        boxes = []
        for place, (box_name, look) in enumerate(looks.items()):
            if box_name in groups:
                group = groups[box_name]
                box_row = boxes_row(look.title, group)
                boxes.append(Box(place, group, box_row, look.colour, box_name))
        frames[panel] = pd.DataFrame([box.row for box in boxes])
        boxes_by_panel[panel] = []
        for box in boxes:
            # a logarithmic axis can't show a box at 0
            if axis.is_log and box.row["Upper quartile"] < FLOAT32_ROUNDING:
                box_title = looks[box.method].title
                at_zero.append(f"{box_title} on {panel}" if panel else box_title)
            else:
                boxes_by_panel[panel].append(box)
    sentences = [caption, axis.note]
    if at_zero:
        sentences.append(f"Not drawn, at 0 up to rounding: {', '.join(at_zero)}.")
    if max(map(len, all_values)) > MAX_OUTSIDE:
        sentences.append(
            f"Dots: values beyond the whiskers, of each box the {MAX_OUTSIDE} farthest from its "
            "median."
        )
    return Figure(
        name=name,
        title=title,
        caption=" ".join(filter(None, sentences)),
        plot=partial(_plot, axis, boxes_by_panel, looks, axis_title(value)),
        chart=chart,
        label=value.title,
        frame=join_frames(frames),
    )


TITLES = 0.45  # inches: the height of the title and the axis of a panel
LINE = 0.118  # inches: the height of a line of text
GAP = 0.05  # inches: the height between two boxes


def _plot(
    axis: Axis,
    boxes_by_panel: Mapping[str, Sequence[Box]],
    looks: Mapping[str, Look],
    label: str,
) -> Canvas:
    """Draw a panel of boxes per title. The boxes lie below each other."""
    ticks = [drawing.wrap_name(look.tick, look.letters) for look in looks.values()]
    tick_width = LETTER * max(len(line) for tick in ticks for line in tick.split("\n")) + 0.1
    num_lines = [1 + tick.count("\n") for tick in ticks]
    # Boxes are equally high, and the lines of two neighbours must not overlap.
    most_lines = max((sum(pair) / 2 for pair in pairwise(num_lines)), default=num_lines[0])
    height = TITLES + len(ticks) * (GAP + LINE * most_lines)
    num_panels = len(boxes_by_panel)
    per_row = drawing.panels_per_row(num_panels, PAGE - tick_width, PANEL, height)
    figure = drawing.canvas(PAGE, height * -(-num_panels // per_row) + 0.25)
    all_axes = drawing.panels(figure, num_panels, per_row, sharey=True, sharex=True)
    for axes, (title, boxes) in zip(all_axes, boxes_by_panel.items(), strict=True):
        draw_boxes(axes, boxes, axis)
        # y=1 puts the title on the frame. Otherwise each drawing measures all tick labels, although
        # none can be in the title's way.
        drawing.set_title(axes, title, (PAGE - tick_width) / per_row, y=1.0)
    # all panels share the axes of the first
    apply_axis(axis, all_axes[0])
    all_axes[0].set_ylim(len(ticks) - 0.4, -0.6)
    all_axes[0].set_yticks(range(len(ticks)), ticks)
    figure.supxlabel(label)
    return figure
