"""Box-plots: every metric by method, and the errors that no method decides by network (Fig. 2 of the paper)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray

from axiom_bench.report.charts import drawing
from axiom_bench.report.charts.drawing import LETTER, Chart, Figure, LeftOut, hover
from axiom_bench.report.charts.styles import GREY, axis_title, method_styles, metrics_in_order
from axiom_bench.report.charts.svg import INK, mark
from axiom_bench.report.options import PAGE, number_of, options_of
from axiom_bench.statistics.bootstrap import Floats
from axiom_bench.statistics.labels import FLOAT32_ROUNDING, Setting, Value, counts_text, number, share
from axiom_bench.statistics.run_folder import METHOD_FREE, RunFolder


class BoxGroup(NamedTuple):
    """values: (rows,) of single images with status ok, at least one, in the records' order. keys: (rows,) places in
    `Records.keys`. images: how many images these are of."""

    values: Floats
    keys: NDArray[np.int32]
    images: int


def groups_of(run: RunFolder, metric: str, methods: Collection[str]) -> dict[Setting, dict[str, BoxGroup]]:
    """The groups with values of these methods: settings in the run's order, methods in the records'."""
    records = run.records
    if metric not in records.blocks:
        return {}
    block, image = records.blocks[metric], np.asarray(records.keys["image_id"].cat.codes)
    is_chosen = np.array([name in methods for name in records.methods])
    block = block.where((block.statuses == records.ok) & is_chosen[block.methods] & ~records.of_whole_set[block.keys])
    setting = records.keys.groupby(list(Setting._fields), observed=True).ngroup().to_numpy()
    code = setting[block.keys] * len(records.methods) + block.methods
    few = len(run.settings) * len(records.methods) <= np.iinfo(np.int16).max
    order = np.argsort(code.astype(np.int16) if few else code, kind="stable")  # small numbers are sorted in linear time
    starts = np.flatnonzero(np.diff(code[order], prepend=-1))
    groups: dict[Setting, dict[str, BoxGroup]] = {}
    for rows in np.split(order, starts[1:]) if len(order) else ():
        place, method = divmod(int(code[rows[0]]), len(records.methods))
        keys = block.keys[rows]
        group = BoxGroup(block.values[rows], keys, int(np.count_nonzero(np.bincount(image[keys]))))
        groups.setdefault(run.settings[place], {})[records.methods[method]] = group
    return groups


def counts_in(groups: Iterable[BoxGroup]) -> str:
    """ "n = 60 to 64 images, 112 to 120 rows": the fewest and the most of the groups."""
    counts = [(group.images, len(group.values)) for group in groups]
    return counts_text(*zip(*counts, strict=True))


LOG_SPREAD = 30.0  # times the smallest median: from here on a linear axis squeezes a box into a line
MAX_ZEROS = 0.05  # share of values that may be 0, for which a logarithmic axis has no place
FENCE = 3.0  # interquartile ranges beyond the quartiles: far out, after Tukey


@dataclass(frozen=True)
class Axis:
    """limits of what is shown; log: a logarithmic axis, on whose low end smaller values are drawn. outside: how many of
    the values the limits cut off (linear) or are drawn on the low end (logarithmic)."""

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
            return "Logarithmic axis" + (f"; {outside} below its low end are drawn there." if self.outside else ".")
        return f"{outside} lie outside the axis; the boxes count them." if self.outside else ""

    def drawn(self, values: Floats) -> Floats:
        """The values as they are drawn: a logarithmic axis has no place for 0."""
        return np.maximum(values, self.low) if self.log else values


def fit(groups: Sequence[Floats]) -> Axis:
    """The axis for box-plots of these groups of values: all of it if the tails are short. Else logarithmic if the
    values spread wide and nearly none is rounding; else cut at FENCE interquartile ranges around the groups'
    quartiles."""
    groups = [np.sort(group) for group in groups if len(group)]
    low, high = float(min(group[0] for group in groups)), float(max(group[-1] for group in groups))
    count = sum(map(len, groups))
    if low >= 0 and high < FLOAT32_ROUNDING:
        return Axis(0.0, FLOAT32_ROUNDING, False, 0, count)
    quartiles = np.array([np.quantile(group, [0.25, 0.5, 0.75]) for group in groups])
    # Of each quartile the smallest that isn't rounding, or NaN.
    above = np.fmin.reduce(np.where(quartiles >= FLOAT32_ROUNDING, quartiles, np.nan))
    bulk = [group[np.searchsorted(group, FLOAT32_ROUNDING) :] for group in groups]
    is_bulk = count - sum(map(len, bulk)) <= MAX_ZEROS * count
    if low >= 0 and high > LOG_SPREAD * above[1] and is_bulk:
        bottom = float(max(min(group[0] for group in bulk if len(group)), above[0] / LOG_SPREAD))
        return Axis(bottom, high, True, _below(groups, bottom), count)
    reach = FENCE * (quartiles[:, 2] - quartiles[:, 0])
    low = max(low, float((quartiles[:, 0] - reach).min()))
    high = min(high, float((quartiles[:, 2] + reach).max()))
    beyond = sum(len(group) - int(np.searchsorted(group, high, "right")) for group in groups)
    return Axis(low, high, False, _below(groups, low) + beyond, count)


def _below(groups: Sequence[Floats], least: float) -> int:
    return sum(int(np.searchsorted(group, least)) for group in groups)


def apply_axis(axis: Axis, axes: Any) -> None:
    """Set scale and limits of x, with a margin so that no whisker lies on the frame."""
    if axis.log:
        axes.set_xscale("log")
        axes.set_xlim(axis.low / 1.3, axis.high * 1.3)
        axes.xaxis.set_major_locator(LogLocator(numticks=5))
        if axis.high > 10 * axis.low:  # minor ticks have no labels then, and a tick itself is never drawn
            axes.xaxis.set_minor_locator(NullLocator())
    else:
        margin = 0.04 * (axis.high - axis.low) or 0.5 * abs(axis.high) or 0.5
        axes.set_xlim(axis.low - margin, axis.high + margin)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 5, 10]))


WHISKER = 1.5  # interquartile ranges beyond the quartiles (Tukey)
MAX_OUTSIDE = 20  # points beyond the whiskers of a box that are drawn: the page of 50,000 images must stay small


def row(name: str, group: BoxGroup) -> dict[str, Any]:
    """What a reader sees of a box: counts, and its numbers. The whiskers reach to the last value within WHISKER
    interquartile ranges of the quartiles."""
    values = group.values
    q1, median, q3 = np.quantile(values, [0.25, 0.5, 0.75]).tolist()
    reach = WHISKER * (q3 - q1)
    within = values[(values >= q1 - reach) & (values <= q3 + reach)]
    counts = {"Name": name, "Rows": len(values), "Images": group.images}
    box = {"Median": median, "Lower quartile": q1, "Upper quartile": q3}
    ends = {"Lower whisker": float(within.min()), "Upper whisker": float(within.max())}
    return counts | box | ends | {"Mean": float(values.mean())}


def farthest_outside(values: Floats, box: Mapping[str, Any], axis: Axis) -> NDArray[np.int_]:
    """The places of the MAX_OUTSIDE values on the axis and beyond the whiskers that are farthest from the median."""
    is_on_axis = axis.log | ((values >= axis.low) & (values <= axis.high))
    outside = np.flatnonzero(((values < box["Lower whisker"]) | (values > box["Upper whisker"])) & is_on_axis)
    distance = np.abs(values[outside] - box["Median"])
    return outside[np.argsort(-distance, kind="stable")[:MAX_OUTSIDE]]


FACE = 0.35  # opacity of a box
BOX, CAP = 0.3, 0.15  # half of the heights of a box, and of a whisker's cap
DIAMOND = {"marker": "D", "markersize": 2.5, "markerfacecolor": "white", "markeredgecolor": INK}
FAINT = {"marker": "o", "markersize": 2, "alpha": 0.6, "markerfacecolor": GREY, "markeredgewidth": 0}


class Box(NamedTuple):
    """One of a panel. row: see `row`. method: or what else it is of."""

    place: int
    group: BoxGroup
    row: dict[str, Any]
    colour: str
    method: str


def draw_boxes(axes: Any, boxes: Sequence[Box], axis: Axis, keys: pd.DataFrame, class_name: Any) -> None:
    """The boxes of a panel, lying, with means as diamonds and the values farthest beyond the whiskers as points.

    keys: of the records. class_name: (model, class) -> its name. All boxes are one artist, and so are all whiskers:
    eight for each box, as of `Axes.boxplot`, took most of a figure's time.
    """
    if not boxes:
        return
    rows = pd.DataFrame([box.row for box in boxes])
    median, q1, q3, low, high, mean = axis.drawn(rows.iloc[:, -6:].to_numpy(float)).T
    low, high = np.minimum(low, q1), np.maximum(high, q3)
    at = np.array([box.place for box in boxes], dtype=float)
    colours, methods, titles = [box.colour for box in boxes], [box.method for box in boxes], hover(rows)

    def paths(*points: tuple[Any, Any]) -> list[Floats]:
        """Of each box (points, 2)."""
        return list(np.stack([np.stack(point, axis=-1) for point in points], axis=1))

    corners = paths((q1, at - BOX), (q1, at + BOX), (q3, at + BOX), (q3, at - BOX))
    faces = [(colour, FACE) for colour in colours]
    look: dict[str, Any] = {"linewidths": 0.8, "zorder": 2}
    whiskers = [*paths((q1, at), (low, at)), *paths((q3, at), (high, at))]
    caps = [*paths((low, at - CAP), (low, at + CAP)), *paths((high, at - CAP), (high, at + CAP))]
    lines = LineCollection(whiskers + caps, colors=4 * colours, capstyle="round", **look)
    mark(lines, 4 * methods)
    middles = LineCollection(paths((median, at - BOX), (median, at + BOX)), colors=INK, linewidths=1.2, zorder=2.1)
    mark(middles, methods, titles)
    faces_of = PolyCollection(corners, facecolors=faces, edgecolors=colours, joinstyle="miter", **look)
    mark(faces_of, methods, titles)
    for artist in (faces_of, lines, middles):
        axes.add_collection(artist, autolim=False)
    is_shown = (mean >= axis.low) & (mean <= axis.high)
    (diamonds,) = axes.plot(mean[is_shown], at[is_shown], linestyle="none", zorder=2.1, **DIAMOND, markeredgewidth=0.7)
    mark(diamonds, np.array(methods)[is_shown].tolist(), np.array(titles)[is_shown].tolist())
    _draw_outside(axes, boxes, axis, keys, class_name)


def _draw_outside(axes: Any, boxes: Sequence[Box], axis: Axis, keys: pd.DataFrame, class_name: Any) -> None:
    values, places, methods, titles = [], [], [], []
    for box in boxes:
        chosen = farthest_outside(box.group.values, box.row, axis)
        about = keys.iloc[box.group.keys[chosen]]
        names = zip(about["image_id"], map(class_name, about["model"], about["target_class"]), strict=True)
        values.append(axis.drawn(box.group.values[chosen]))
        places += [box.place] * len(chosen)
        methods += [box.method] * len(chosen)
        titles += [f"{image}, {name}: {number(value)}" for (image, name), value in
                   zip(names, box.group.values[chosen].tolist(), strict=True)]  # fmt: skip
    (points,) = axes.plot(np.concatenate(values), places, linestyle="none", zorder=2, **FAINT)
    mark(points, methods, titles)


def fewer_points(groups: Iterable[BoxGroup]) -> str:
    """For the caption of these groups' boxes: whether points may be left out."""
    is_long = max(len(group.values) for group in groups) > MAX_OUTSIDE
    return (
        f"Dots: values beyond the whiskers, of each box the {MAX_OUTSIDE} farthest from its median." if is_long else ""
    )


BY_METHOD = Chart("by-method", "Each metric by method", "Metric")
BY_NETWORK = Chart("by-network", "Method-free errors by network", "Error")


def draw(run: RunFolder) -> Iterator[Figure | LeftOut]:
    """One figure for each metric that measures methods. The rows of one are read when it is drawn."""
    defined = run.records.measured(METHOD_FREE, with_value=True)
    for name in metrics_in_order(run, run.records.measured(METHOD_FREE)):
        value = run.metadata.value(name)
        title = f"{value.title} by method"
        if name in defined:
            shown = _ByMethod(run, value)
            look = (BY_METHOD, value.title, shown.frame)
            yield Figure(f"by_method_{name}", title, shown.caption, shown.plot, "", *look)
        else:
            yield LeftOut(title, drawing.not_measured(run, name))


def draw_networks(run: RunFolder) -> Iterator[Figure | LeftOut]:
    """One figure for each metric of `config.report.figures.over_models`."""
    for name in options_of(run).figures.over_models:
        shown, figure = _ByNetwork(run, run.metadata.value(name)), number_of(run, name)
        title = f"{shown.value.title} over models"
        if shown.panels:
            look = (BY_NETWORK, shown.value.title, shown.frame)
            yield Figure(f"over_models_{name}", title, shown.caption, shown.plot, figure, *look)
        else:
            yield LeftOut(title, drawing.not_measured(run, name), figure)


PANEL = 1.9  # inches: the width of a panel
TITLES, LINE, GAP = 0.45, 0.118, 0.05  # inches of height: of title and axis, of a line of text, between two boxes


@dataclass(frozen=True)
class _Boxes(ABC):
    """Panels of boxes, lying below each other; what they are of is a subclass's."""

    run: RunFolder
    value: Value
    letters: ClassVar[int] = 16  # of a name in one line

    @property
    @abstractmethod
    def panels(self) -> Mapping[str, Mapping[str, BoxGroup]]:
        """{title: {name of a box: its values}}."""

    @property
    @abstractmethod
    def names(self) -> Mapping[str, tuple[str, str]]:
        """{name of a box: its title and colour}, from the top down."""

    def tick(self, name: str) -> str:
        """What stands beside a box."""
        return self.names[name][0]

    @cached_property
    def all_groups(self) -> list[BoxGroup]:
        """Of all panels."""
        return [group for panel in self.panels.values() for group in panel.values()]

    @cached_property
    def fitted(self) -> Axis:
        """Where the values lie."""
        return fit([group.values for group in self.all_groups])

    @cached_property
    def rows(self) -> dict[tuple[str, str], dict[str, Any]]:
        """{(title of a panel, name of a box): what a reader sees of it}."""
        return {
            (title, name): row(text, panel[name])
            for title, panel in self.panels.items()
            for name, (text, _) in self.names.items()
            if name in panel
        }

    def frame(self) -> pd.DataFrame:
        """A row for each box."""
        has_several = len(self.panels) > 1
        return pd.DataFrame([({"Network": key[0]} if has_several else {}) | row for key, row in self.rows.items()])

    def notes(self) -> str:
        """The end of the caption."""
        return " ".join(filter(None, (self.fitted.note, fewer_points(self.all_groups))))

    def plot(self) -> Canvas:
        """The figure."""
        titles = [drawing.wrapped(self.tick(name), self.letters) for name in self.names]
        label = LETTER * max(len(line) for title in titles for line in title.split("\n")) + 0.1
        lines = [1 + title.count("\n") for title in titles]
        high = TITLES + len(titles) * (GAP + LINE * max((sum(pair) / 2 for pair in pairwise(lines)), default=lines[0]))
        per_row = drawing.across(len(self.panels), PAGE - label, PANEL, high)
        figure = drawing.canvas(PAGE, high * -(-len(self.panels) // per_row) + 0.25)
        drawn = drawing.panels(figure, len(self.panels), per_row, sharey=True, sharex=True)
        for axes, (title, panel) in zip(drawn, self.panels.items(), strict=True):
            shown = [
                Box(place, panel[name], self.rows[title, name], colour, name)
                for place, (name, (_, colour)) in enumerate(self.names.items())
                if name in panel
            ]
            draw_boxes(axes, shown, self.fitted, self.run.records.keys, self.run.class_name)
            # On the frame: else each drawing measures all tick labels, of which none can be in the title's way.
            drawing.set_title(axes, title, (PAGE - label) / per_row, y=1.0)
        apply_axis(self.fitted, drawn[0])  # which all panels share
        drawn[0].set_ylim(len(titles) - 0.4, -0.6)
        drawn[0].set_yticks(range(len(titles)), titles)
        for axes in drawn:
            for text, name in zip(axes.get_yticklabels(), self.names, strict=False):  # inner panels have none
                mark(text, [name])
        figure.supxlabel(axis_title(self.value))
        return figure


class _ByMethod(_Boxes):
    @cached_property
    def panels(self) -> Mapping[str, Mapping[str, BoxGroup]]:
        groups = groups_of(self.run, self.value.name, self.run.methods)
        return {self.run.label(setting): of_setting for setting, of_setting in groups.items()}

    @cached_property
    def names(self) -> Mapping[str, tuple[str, str]]:
        styles = method_styles(self.run)
        measured = {name for panel in self.panels.values() for name in panel}
        return {name: (style.title, style.colour) for name, style in styles.items() if name in measured}

    def caption(self) -> str:
        """What is shown, with n."""
        value, run = self.value, self.run
        direction = f", {value.better} is better" if value.has_direction else ""
        parts = [f"{value.title} by method{direction}; {counts_in(self.all_groups)} in a box; diamonds are means."]
        block = run.records.blocks[value.name]
        block = block.where(~run.records.of_whole_set[block.keys])
        measured = {run.records.methods[code] for code in np.unique(block.methods)}
        missing = [method for method in run.methods if method in measured and method not in self.names]
        if missing:
            is_missing = np.isin(run.records.methods, missing)[block.methods]
            statuses = sorted(run.records.statuses[code] for code in np.unique(block.statuses[is_missing]))
            titles = ", ".join(map(run.metadata.method_title, missing))
            parts.append(f"Without a value: {titles} ({', '.join(statuses)}).")
        return " ".join(filter(None, (*parts, self.notes())))


class _ByNetwork(_Boxes):
    letters = 30

    @cached_property
    def groups(self) -> dict[Setting, dict[str, BoxGroup]]:
        return groups_of(self.run, self.value.name, (METHOD_FREE,))

    @cached_property
    def panels(self) -> Mapping[str, Mapping[str, BoxGroup]]:
        of_networks = {self.run.label(setting): group[METHOD_FREE] for setting, group in self.groups.items()}
        return {"": of_networks} if of_networks else {}

    @cached_property
    def names(self) -> Mapping[str, tuple[str, str]]:
        return {label: (label, drawing.MUTED) for label in self.panels[""]}

    def tick(self, name: str) -> str:
        """With the mean."""
        return f"{name}: mean {number(float(self.panels[''][name].values.mean()))}"

    def caption(self) -> str:
        """What is shown, with n."""
        counts = ", ".join(f"{label} {counts_in([group])}" for label, group in self.panels[""].items())
        shown = f"{self.value.title} over models, one value for each image and explained class; diamonds are means."
        return " ".join(filter(None, (shown, f"{counts}.", self.notes())))
