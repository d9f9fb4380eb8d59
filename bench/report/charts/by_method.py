"""Box-plots: every metric by method, and the errors that no method decides by network (Fig. 2 of
the paper).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray

from axiom_bench.records.by_metric import image_numbers
from axiom_bench.report.charts import drawing
from axiom_bench.report.charts.drawing import LETTER, PANEL, Chart, Figure, LeftOut, by_network
from axiom_bench.report.charts.styles import GREY, axis_title, method_styles, metrics_in_order
from axiom_bench.report.charts.svg import INK
from axiom_bench.report.options import PAGE, number_of, options_of
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
    """values: (rows,) of single images with status ok, at least one, in the records' order. images:
    how many images these are of.
    """

    values: Floats
    images: int


def groups_of(
    run: RunFolder, metric: str, methods: Collection[str]
) -> dict[Setting, dict[str, BoxGroup]]:
    """The groups with values of these methods: settings in the run's order, methods in the
    records'.
    """
    records = run.records
    if metric not in records.blocks:
        return {}
    block, image = records.blocks[metric], image_numbers(records.keys["image_id"])
    is_chosen = np.array([name in methods for name in records.methods])
    block = block.where(
        (block.statuses == records.ok)
        & is_chosen[block.methods]
        & ~records.of_whole_set[block.keys]
    )
    setting = records.keys.groupby(list(Setting._fields), observed=True).ngroup().to_numpy()
    code = setting[block.keys] * len(records.methods) + block.methods
    few = len(run.settings) * len(records.methods) <= np.iinfo(np.int16).max
    order = np.argsort(
        code.astype(np.int16) if few else code, kind="stable"
    )  # small numbers are sorted in linear time
    starts = np.flatnonzero(np.diff(code[order], prepend=-1))
    groups: dict[Setting, dict[str, BoxGroup]] = {}
    for rows in np.split(order, starts[1:]) if len(order) else ():
        place, method = divmod(int(code[rows[0]]), len(records.methods))
        group = BoxGroup(
            block.values[rows], int(np.count_nonzero(np.bincount(image[block.keys[rows]])))
        )
        groups.setdefault(run.settings[place], {})[records.methods[method]] = group
    return groups


def counts_in(groups: Iterable[BoxGroup]) -> str:
    """ "n = 60 to 64 images, 112 to 120 rows": the fewest and the most of the groups."""
    return counts_text(*zip(*((group.images, len(group.values)) for group in groups), strict=True))


LOG_SPREAD = (
    30.0  # times the smallest median: from here on a linear axis squeezes a box into a line
)
MAX_ZEROS = 0.05  # share of values that may be 0, for which a logarithmic axis has no place
FENCE = 3.0  # interquartile ranges beyond the quartiles: far out, after Tukey


@dataclass(frozen=True)
class Axis:
    """limits of what is shown; log: a logarithmic axis, on whose low end smaller values are drawn.
    outside: how many of the values the limits cut off (linear) or are drawn on the low end
    (logarithmic).
    """

    low: float
    high: float
    log: bool
    outside: int
    count: int

    @property
    def note(self) -> str:
        """For the caption; empty where all values are shown on a linear axis."""
        outside = f"{self.outside:,} of {self.count:,} values ({share(self.outside, self.count)})"
        if self.log:
            return "Logarithmic axis" + (
                f"; {outside} below its low end are drawn there." if self.outside else "."
            )
        return f"{outside} lie outside the axis; the boxes count them." if self.outside else ""

    def drawn(self, values: Floats) -> Floats:
        """The values as they are drawn: a logarithmic axis has no place for 0."""
        return np.maximum(values, self.low) if self.log else values


def fit(groups: Sequence[Floats]) -> Axis:
    """The axis for box-plots of these groups of values: all of it if the tails are short. Else
    logarithmic if the values spread wide and nearly none is rounding; else cut at FENCE
    interquartile ranges around the groups' quartiles.
    """
    groups = [np.sort(group) for group in groups if len(group)]
    low, high = float(min(group[0] for group in groups)), float(max(group[-1] for group in groups))
    count = sum(map(len, groups))

    def below(least: float) -> int:
        return sum(int(np.searchsorted(group, least)) for group in groups)

    if low >= 0 and high < FLOAT32_ROUNDING:
        return Axis(0.0, FLOAT32_ROUNDING, False, 0, count)
    quartiles = np.array([np.quantile(group, [0.25, 0.5, 0.75]) for group in groups])
    # Of each quartile the smallest that isn't rounding, or NaN.
    above = np.fmin.reduce(np.where(quartiles >= FLOAT32_ROUNDING, quartiles, np.nan))
    bulk = [group[np.searchsorted(group, FLOAT32_ROUNDING) :] for group in groups]
    is_bulk = count - sum(map(len, bulk)) <= MAX_ZEROS * count
    if low >= 0 and high > LOG_SPREAD * above[1] and is_bulk:
        bottom = float(max(min(group[0] for group in bulk if len(group)), above[0] / LOG_SPREAD))
        return Axis(bottom, high, True, below(bottom), count)
    reach = FENCE * (quartiles[:, 2] - quartiles[:, 0])
    low = max(low, float((quartiles[:, 0] - reach).min()))
    high = min(high, float((quartiles[:, 2] + reach).max()))
    beyond = sum(len(group) - int(np.searchsorted(group, high, "right")) for group in groups)
    return Axis(low, high, False, below(low) + beyond, count)


def apply_axis(axis: Axis, axes: Any) -> None:
    """Set scale and limits of x, with a margin so that no whisker lies on the frame."""
    if axis.log:
        axes.set_xscale("log")
        axes.set_xlim(axis.low / 1.3, axis.high * 1.3)
        axes.xaxis.set_major_locator(LogLocator(numticks=5))
        if (
            axis.high > 10 * axis.low
        ):  # minor ticks have no labels then, and a tick itself is never drawn
            axes.xaxis.set_minor_locator(NullLocator())
    else:
        margin = 0.04 * (axis.high - axis.low) or 0.5 * abs(axis.high) or 0.5
        axes.set_xlim(axis.low - margin, axis.high + margin)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 5, 10]))


WHISKER = 1.5  # interquartile ranges beyond the quartiles (Tukey)
# points beyond the whiskers of a box that are drawn: the page of 50,000 images must stay small
MAX_OUTSIDE = 20


def row(name: str, group: BoxGroup) -> dict[str, Any]:
    """What a reader sees of a box: counts, and its numbers. The whiskers reach to the last value
    within WHISKER interquartile ranges of the quartiles.
    """
    values = group.values
    q1, median, q3 = np.quantile(values, [0.25, 0.5, 0.75]).tolist()
    reach = WHISKER * (q3 - q1)
    within = values[(values >= q1 - reach) & (values <= q3 + reach)]
    counts = {"Name": name, "Rows": len(values), "Images": group.images}
    box = {"Median": median, "Lower quartile": q1, "Upper quartile": q3}
    ends = {"Lower whisker": float(within.min()), "Upper whisker": float(within.max())}
    return counts | box | ends | {"Mean": float(values.mean())}


def farthest_outside(values: Floats, box: Mapping[str, Any], axis: Axis) -> NDArray[np.int_]:
    """The places of the MAX_OUTSIDE values on the axis and beyond the whiskers that are farthest
    from the median.
    """
    is_on_axis = axis.log | ((values >= axis.low) & (values <= axis.high))
    outside = np.flatnonzero(
        ((values < box["Lower whisker"]) | (values > box["Upper whisker"])) & is_on_axis
    )
    distance = np.abs(values[outside] - box["Median"])
    return outside[np.argsort(-distance, kind="stable")[:MAX_OUTSIDE]]


FACE = 0.35  # opacity of a box
BOX, CAP = 0.3, 0.15  # half of the heights of a box, and of a whisker's cap
DIAMOND = {"marker": "D", "markersize": 2.5, "markerfacecolor": "white", "markeredgecolor": INK}
FAINT = {
    "marker": "o",
    "markersize": 2,
    "alpha": 0.6,
    "markerfacecolor": GREY,
    "markeredgewidth": 0,
}


class Box(NamedTuple):
    """One of a panel. row: see `row`. method: or what else it is of."""

    place: int
    group: BoxGroup
    row: dict[str, Any]
    colour: str
    method: str


def draw_boxes(axes: Any, boxes: Sequence[Box], axis: Axis) -> None:
    """The boxes of a panel, lying, with means as diamonds and the values farthest beyond the
    whiskers as points.

    All boxes are one artist, and so are all whiskers: eight for each box, as of `Axes.boxplot`,
    took most of a figure's time.
    """
    if not boxes:
        return
    rows = pd.DataFrame([box.row for box in boxes])
    median, q1, q3, low, high, mean = axis.drawn(rows.iloc[:, -6:].to_numpy(float)).T
    low, high = np.minimum(low, q1), np.maximum(high, q3)
    at = np.array([box.place for box in boxes], dtype=float)
    colours = [box.colour for box in boxes]

    def paths(*points: tuple[Any, Any]) -> list[Floats]:
        """Of each box (points, 2)."""
        return list(np.stack([np.stack(point, axis=-1) for point in points], axis=1))

    look: dict[str, Any] = {"linewidths": 0.8, "zorder": 2}
    corners = paths((q1, at - BOX), (q1, at + BOX), (q3, at + BOX), (q3, at - BOX))
    faces = PolyCollection(corners, facecolors=[(colour, FACE) for colour in colours], edgecolors=colours,
                           joinstyle="miter", **look)  # fmt: skip
    whiskers = [*paths((q1, at), (low, at)), *paths((q3, at), (high, at))]
    caps = [*paths((low, at - CAP), (low, at + CAP)), *paths((high, at - CAP), (high, at + CAP))]
    lines = LineCollection(whiskers + caps, colors=4 * colours, capstyle="round", **look)
    middles = LineCollection(
        paths((median, at - BOX), (median, at + BOX)), colors=INK, linewidths=1.2, zorder=2.1
    )
    for artist in (faces, lines, middles):
        axes.add_collection(artist, autolim=False)
    is_shown = (mean >= axis.low) & (mean <= axis.high)
    axes.plot(
        mean[is_shown], at[is_shown], linestyle="none", zorder=2.1, **DIAMOND, markeredgewidth=0.7
    )
    outside = [(box, farthest_outside(box.group.values, box.row, axis)) for box in boxes]
    values = np.concatenate([box.group.values[chosen] for box, chosen in outside])
    places = [box.place for box, chosen in outside for _ in chosen]
    axes.plot(axis.drawn(values), places, linestyle="none", zorder=2, **FAINT)


BY_METHOD = Chart("by-method", "Each metric by method", "Metric")
BY_NETWORK = Chart("by-network", "Method-free errors by network", "Error")
Groups = Mapping[str, BoxGroup]  # by the method, or what else a box is of


def draw(run: RunFolder) -> Iterator[Figure | LeftOut]:
    """One figure for each metric that measures methods."""
    defined = run.records.measured(METHOD_FREE, with_value=True)
    for name in metrics_in_order(run, run.records.measured(METHOD_FREE)):
        value = run.metadata.value(name)
        title = f"{value.title} by method"
        if name not in defined:
            yield LeftOut(title, drawing.not_measured(run, name))
            continue
        settings, same = drawing.told_apart(run, name)
        groups_by = groups_of(run, name, run.methods)
        panels = {
            run.label(setting): groups_by[setting] for setting in settings if setting in groups_by
        }
        if not panels:
            yield LeftOut(title, same)
            continue
        counts = counts_in(group for panel in panels.values() for group in panel.values())
        direction = f", {value.better} is better" if value.has_direction else ""
        shown = {method for panel in panels.values() for method in panel}
        caption = f"{value.title} by method{direction}; {counts} in a box; diamonds are means."
        looks = {
            method: Look(style.title, style.title, style.colour)
            for method, style in method_styles(run).items()
            if method in shown
        }
        with_value = {method for groups in groups_by.values() for method in groups}
        caption = " ".join(filter(None, [caption, same, *_without_value(run, name, with_value)]))
        yield _figure(run, BY_METHOD, f"by_method_{name}", title, value, panels, looks, caption)


def _without_value(run: RunFolder, metric: str, with_value: Collection[str]) -> Iterator[str]:
    """Which methods were measured, and have no value; with their statuses."""
    records, block = run.records, run.records.blocks[metric]
    block = block.where(~records.of_whole_set[block.keys])
    measured = {records.methods[code] for code in np.unique(block.methods)}
    if missing := [
        method for method in run.methods if method in measured and method not in with_value
    ]:
        codes = np.unique(block.statuses[np.isin(records.methods, missing)[block.methods]])
        titles = ", ".join(map(run.metadata.method_title, missing))
        yield (
            f"Without a value: {titles} "
            f"({', '.join(sorted(records.statuses[code] for code in codes))})."
        )


def draw_networks(run: RunFolder) -> Iterator[Figure | LeftOut]:
    """One figure for each metric of `config.report.figures.over_models`."""
    for name in options_of(run).figures.over_models:
        value, number_in_paper = run.metadata.value(name), number_of(run, name)
        title = f"{value.title} over models"
        groups = {
            run.label(at): group[METHOD_FREE]
            for at, group in groups_of(run, name, (METHOD_FREE,)).items()
        }
        if not groups:
            yield LeftOut(title, drawing.not_measured(run, name), number_in_paper)
            continue
        if max(float(np.abs(group.values).max()) for group in groups.values()) < FLOAT32_ROUNDING:
            yield LeftOut(title, "All values are 0 but for rounding.", number_in_paper)
            continue
        counts = ", ".join(f"{label} {counts_in([group])}" for label, group in groups.items())
        caption = (
            f"{value.title} over models, one value for each image and explained class; diamonds "
            f"are means. {counts}."
        )
        looks = {
            label: Look(
                label, f"{label}: mean {number(float(group.values.mean()))}", drawing.MUTED, 30
            )
            for label, group in groups.items()
        }
        about = (f"over_models_{name}", title, value, {"": groups}, looks, caption, number_in_paper)
        yield _figure(run, BY_NETWORK, *about)


class Look(NamedTuple):
    """Of a box. tick: what stands beside it, in lines of so many letters."""

    title: str
    tick: str
    colour: str
    letters: int = 16


def _figure(
    run: RunFolder, chart: Chart, name: str, title: str, value: Value, panels: Mapping[str, Groups],
    looks: Mapping[str, Look], caption: str, number_in_paper: str = "",
) -> Figure:  # fmt: skip
    """panels: {title: the values of its boxes}. looks: {name of a box: its look}, from the top
    down.
    """
    all_values = [group.values for panel in panels.values() for group in panel.values()]
    axis = fit(all_values)
    fewer = (
        f"Dots: values beyond the whiskers, of each box the {MAX_OUTSIDE} farthest from its median."
    )
    boxes = {
        panel: [
            Box(place, groups[name], row(look.title, groups[name]), look.colour, name)
            for place, (name, look) in enumerate(looks.items())
            if name in groups
        ]
        for panel, groups in panels.items()
    }
    frame = by_network(
        {panel: pd.DataFrame([box.row for box in shown]) for panel, shown in boxes.items()}
    )
    zero = {  # for which a logarithmic axis has no place
        (panel, box.place): f"{looks[box.method].title}{f' on {panel}' * bool(panel)}"
        for panel, each in boxes.items()
        for box in each
        if axis.log and box.row["Upper quartile"] < FLOAT32_ROUNDING
    }
    boxes = {
        panel: [box for box in each if (panel, box.place) not in zero]
        for panel, each in boxes.items()
    }
    left = f"Not drawn, at 0 but for rounding: {', '.join(zero.values())}."
    notes = (
        caption,
        axis.note,
        left if zero else "",
        fewer if max(map(len, all_values)) > MAX_OUTSIDE else "",
    )
    plot = partial(_plot, run, axis, boxes, looks, axis_title(value))
    return Figure(
        name, title, " ".join(filter(None, notes)), plot, number_in_paper, chart, value.title, frame
    )


TITLES, LINE, GAP = (
    0.45,
    0.118,
    0.05,
)  # inches of height: of title and axis, of a line of text, between two boxes


def _plot(
    run: RunFolder,
    axis: Axis,
    boxes: Mapping[str, Sequence[Box]],
    looks: Mapping[str, Look],
    label: str,
) -> Canvas:
    """A panel of boxes, lying below each other, for each title."""
    ticks = [drawing.wrapped(look.tick, look.letters) for look in looks.values()]
    beside = LETTER * max(len(line) for tick in ticks for line in tick.split("\n")) + 0.1
    lines = [1 + tick.count("\n") for tick in ticks]
    high = TITLES + len(ticks) * (
        GAP + LINE * max((sum(pair) / 2 for pair in pairwise(lines)), default=lines[0])
    )
    per_row = drawing.across(len(boxes), PAGE - beside, PANEL, high)
    figure = drawing.canvas(PAGE, high * -(-len(boxes) // per_row) + 0.25)
    drawn = drawing.panels(figure, len(boxes), per_row, sharey=True, sharex=True)
    for axes, (title, shown) in zip(drawn, boxes.items(), strict=True):
        draw_boxes(axes, shown, axis)
        # On the frame: else each drawing measures all tick labels, of which none can be in the
        # title's way.
        drawing.set_title(axes, title, (PAGE - beside) / per_row, y=1.0)
    apply_axis(axis, drawn[0])  # which all panels share
    drawn[0].set_ylim(len(ticks) - 0.4, -0.6)
    drawn[0].set_yticks(range(len(ticks)), ticks)
    figure.supxlabel(label)
    return figure
