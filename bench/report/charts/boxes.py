"""Box-plots: the axis and the five numbers of each box, drawn by matplotlib for files and by Vega for the page."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, NamedTuple

import altair as alt
import numpy as np
import pandas as pd
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray

from axiom_bench.report.charts import vega
from axiom_bench.report.charts.vega import Panel, columns
from axiom_bench.statistics.bootstrap import Floats
from axiom_bench.statistics.labels import FLOAT32_ROUNDING, Setting, Value, counts_text, share
from axiom_bench.statistics.run_folder import RunFolder


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


def apply_axis(axis: Axis, axes: Any, axis_name: str = "y") -> None:
    """Set scale and limits, with a margin so that no whisker lies on the frame."""
    if axis.log:
        getattr(axes, f"set_{axis_name}scale")("log")
        getattr(axes, f"set_{axis_name}lim")(axis.low / 1.3, axis.high * 1.3)
        getattr(axes, f"{axis_name}axis").set_major_locator(LogLocator(numticks=7 if axis_name == "y" else 5))
        if axis.high > 10 * axis.low:  # minor ticks have no labels then, and a tick itself is never drawn
            getattr(axes, f"{axis_name}axis").set_minor_locator(NullLocator())
    else:
        margin = 0.04 * (axis.high - axis.low) or 0.5 * abs(axis.high) or 0.5
        getattr(axes, f"set_{axis_name}lim")(axis.low - margin, axis.high + margin)
        getattr(axes, f"{axis_name}axis").set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 5, 10]))


MOST_POINTS = 2000  # beyond the whiskers of a box: of more, so many are drawn, and a PDF keeps them as a picture
FACE = 0.35  # opacity of a box
BOX, CAP = 0.3, 0.15  # half of the widths of a box, and of a whisker's cap
DIAMOND = {"marker": "D", "markersize": 2.5, "markerfacecolor": "white", "markeredgecolor": "0.15"}
FAINT = {"marker": "o", "markersize": 1.5, "alpha": 0.35, "markerfacecolor": "0.3", "markeredgewidth": 0}


def draw_boxes(axes: Any, groups: Sequence[Floats], colours: Sequence[str], upright: bool, means: bool = False) -> None:
    """A box of each group in its colour, at 0, 1, ...; upright, or lying from the top down. means: as diamonds. The
    axes' limits are the caller's to set.

    All boxes are one artist, and so are all whiskers: eight for each box, as of `Axes.boxplot`, took most of a figure's
    time."""
    filled = [place for place, group in enumerate(groups) if len(group)]
    if not filled:
        return
    boxes = pd.DataFrame([five_numbers(groups[place]) for place in filled]).to_dict("series")
    at, q1, median, q3 = np.array(filled, dtype=float), boxes["q1"], boxes["median"], boxes["q3"]
    low, high = np.minimum(boxes["low"], q1), np.maximum(boxes["high"], q3)
    edges, turn = [colours[place] for place in filled], slice(None, None, None if upright else -1)

    def paths(*points: tuple[Any, Any]) -> list[Floats]:
        """Of each box (points, 2)."""
        return list(np.stack([np.stack(point[turn], axis=-1) for point in points], axis=1))

    corners = paths((at - BOX, q1), (at + BOX, q1), (at + BOX, q3), (at - BOX, q3))
    faces = [(colour, FACE) for colour in edges]
    look: dict[str, Any] = {"edgecolors": edges, "linewidths": 0.8, "zorder": 2}
    axes.add_collection(PolyCollection(corners, facecolors=faces, joinstyle="miter", **look), autolim=False)
    whiskers = [*paths((at, q1), (at, low)), *paths((at, q3), (at, high))]
    caps = [*paths((at - CAP, low), (at + CAP, low)), *paths((at - CAP, high), (at + CAP, high))]
    lines = LineCollection(whiskers + caps, capstyle="round", **look | {"edgecolors": 4 * edges})
    axes.add_collection(lines, autolim=False)
    middles = paths((at - BOX, median), (at + BOX, median))
    axes.add_collection(LineCollection(middles, colors="0.1", linewidths=1.2, zorder=2.1), autolim=False)
    if means:
        axes.plot(*(at, boxes["mean"])[turn], linestyle="none", zorder=2.1, **DIAMOND, markeredgewidth=0.7)
    outside = []
    for place, least, most in zip(filled, low, high, strict=True):
        values = groups[place]
        outside.append(values[(values < least) | (values > most)])
    is_picture, drawn = max(map(len, outside)) > MOST_POINTS, list(map(_fewer, outside))
    points = (np.repeat(at, list(map(len, drawn))), np.concatenate(drawn))
    axes.plot(*points[turn], linestyle="none", zorder=2, rasterized=is_picture, **FAINT)


def _fewer(values: Floats) -> Floats:
    """At most MOST_POINTS, evenly over their order, the farthest of either side too."""
    if len(values) <= MOST_POINTS:
        return values
    return np.sort(values)[np.linspace(0, len(values) - 1, MOST_POINTS).round().astype(int)]


def fewer_points(groups: Iterable[Floats]) -> str:
    """For the caption of these groups' draw_boxes: whether points may be left out; empty where none are."""
    largest = max(map(len, groups))
    return f"Of points beyond a box's whiskers at most {MOST_POINTS:,} are drawn." if largest > MOST_POINTS else ""


WHISKER = 1.5  # interquartile ranges beyond the quartiles (Tukey)
STEP = 24  # pixels a box
# Single values of a chart, about a megabyte in the page, and of a box, a dot each. Of more, those beyond the whiskers.
MAX_VALUES, MAX_OF_BOX = 40_000, 400
MAX_OUTSIDE = 20  # of a box
SPECS = {False: "boxes", True: "boxes-log"}
CAPTION = "Boxes: quartiles and median; whiskers to the last value within 1.5 interquartile ranges; diamonds: means."
ROW = {"title": "Name", "n": "Rows", "images": "Images", "median": "Median", "q1": "Lower quartile",
       "q3": "Upper quartile", "low": "Lower whisker", "high": "Upper whisker", "mean": "Mean"}  # fmt: skip
VALUE = {"title": "Name", "image": "Image", "class": "Class", "value": "Value"}
HOVER = {"boxes": ROW, "values": VALUE}


def five_numbers(values: Floats) -> dict[str, float]:
    """low, q1, median, q3, high and mean of at least one value; low and high are the whiskers, which reach to the last
    value within WHISKER interquartile ranges of the quartiles."""
    q1, median, q3 = np.quantile(values, [0.25, 0.5, 0.75])
    reach = WHISKER * (q3 - q1)
    within = values[(values >= q1 - reach) & (values <= q3 + reach)]
    return {"low": within.min(), "q1": q1, "median": median, "q3": q3, "high": within.max(), "mean": values.mean()}


def farthest_outside(values: Floats, box: Mapping[str, float]) -> NDArray[np.int_]:
    """The places of the MAX_OUTSIDE values beyond the whiskers that are farthest from the median."""
    outside = np.flatnonzero((values < box["low"]) | (values > box["high"]))
    distance = np.abs(values[outside] - box["median"])
    return outside[np.argsort(-distance, kind="stable")[:MAX_OUTSIDE]]


def all_fit(parts: Iterable[Collection[BoxGroup]]) -> bool:
    """Whether the page holds every single value of a chart's boxes, which come in parts."""
    total = 0
    for part in parts:
        sizes = [len(group.values) for group in part]
        total += sum(sizes)
        if total > MAX_VALUES or max(sizes) > MAX_OF_BOX:
            return False
    return True


def panel(title: str, description: str, groups: Mapping[str, BoxGroup], by: str, run: RunFolder, shown: Shown) -> Panel:
    """A box for each group, by its name in the column `by`, "method" or "title"."""
    rows, names, places, values = [], [], [], []
    for name, group in groups.items():
        box = five_numbers(group.values)
        rows.append({by: name, "n": len(group.values), "images": group.images, **box})
        chosen = slice(None) if shown.every_value else farthest_outside(group.values, box)
        values.append(group.values[chosen])
        places.append(group.keys[chosen])
        names += [name] * len(values[-1])
    selected = run.records.keys.iloc[np.concatenate(places)]
    classes = list(map(run.class_name, selected["model"], selected["target_class"]))
    about = {by: names, "image": selected["image_id"].to_numpy(), "class": classes}
    single = pd.DataFrame({**about, "value": np.concatenate(values)})
    tables = {"boxes": columns(pd.DataFrame(rows)), "values": columns(single)}
    return Panel(title, SPECS[shown.axis.log], description, tables, STEP * len(rows), shown.params)


@dataclass(frozen=True)
class Shown:
    """What panels of one metric share. least: where smaller values are drawn. every_value: all single values are drawn;
    else those beyond the whiskers, of each box the MAX_OUTSIDE farthest from its median."""

    value: Value
    axis: Axis
    least: float
    every_value: bool

    @classmethod
    def of(cls, value: Value, groups: Collection[BoxGroup], every_value: bool) -> Shown:
        """The axis on which the boxes of these groups are seen best."""
        fitted = fit([group.values for group in groups])
        least = fitted.low if fitted.log else min(float(group.values.min()) for group in groups)
        return cls(value, fitted, least, every_value)

    @property
    def params(self) -> dict[str, Any]:
        """Values of the spec's parameters; a logarithmic axis has no place for 0."""
        limits = vega.limits(self.axis.low, self.axis.high, self.axis.log)
        return {**limits, "least": self.least, "title": vega.axis_title(self.value)}

    @property
    def caption(self) -> str:
        """What is drawn, without n."""
        dots = f"Dots are values beyond the whiskers, of each box the {MAX_OUTSIDE} farthest from its median."
        if self.every_value:
            dots = "Each dot is one value, an image and an explained class."
        return f"{CAPTION} {dots} {self.axis.note}".strip()


def specs() -> dict[str, Callable[[], dict[str, Any]]]:
    """What builds either spec, by its name."""
    return {name: partial(spec, log) for log, name in SPECS.items()}


@cache
def spec(log: bool) -> dict[str, Any]:
    """Boxes on their side, one below the other. Tables: `boxes` with the columns of ROW, `values` of VALUE; `title` may
    come from `method`. Parameters: low, high, title; least: where smaller values are drawn."""
    y = alt.Y("title:N", sort=None, title=None, axis=alt.Axis(grid=False, labelColor=vega.INK))

    def x(column: str) -> alt.X:
        return alt.X(f"{column}:Q", scale=vega.between_limits(log), axis=vega.axis())

    colour, fill = alt.Color("colour:N", scale=None), alt.Fill("colour:N", scale=None)
    boxes = alt.Chart(alt.NamedData("boxes")).transform_filter(vega.SHOWN)
    for name in ("low", "q1", "median", "q3", "high", "mean"):
        boxes = boxes.transform_calculate(f"{name}_at", f"max(datum.{name}, least)")
    values = alt.Chart(alt.NamedData("values")).transform_filter(vega.SHOWN)
    values = values.transform_calculate(at="max(datum.value, least)", jitter="(datum.index * 0.618034) % 1")
    offset = alt.YOffset("jitter:Q", scale=alt.Scale(domain=[-0.4, 1.4]))
    dots = values.mark_circle(size=12, opacity=0.4, clip=True).encode(x("at"), y, offset, colour)
    whiskers = boxes.mark_rule(strokeWidth=1.5, clip=True)
    bars = boxes.mark_bar(size=14, fillOpacity=0.3, strokeWidth=1.5, clip=True)
    medians = boxes.mark_tick(thickness=3, size=16, clip=True)
    means = boxes.mark_point(shape="diamond", size=45, strokeWidth=1.5, clip=True)
    layers = (
        dots,
        whiskers.encode(x("low_at"), y, alt.X2("q1_at"), colour),
        whiskers.encode(x("q3_at"), y, alt.X2("high_at"), colour),
        bars.encode(x("q1_at"), y, alt.X2("q3_at"), fill, alt.Stroke("colour:N", scale=None)),
        medians.encode(x("median_at"), y, colour),
        means.encode(x("mean_at"), y, fill=alt.value(vega.PAGE), stroke=alt.value(vega.INK)),
    )
    title = alt.TitleParams(alt.ExprRef("title"))
    return vega.finished(alt.layer(*layers, title=title), HOVER, ("least", "title", *vega.LIMITS))
