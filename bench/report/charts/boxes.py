"""Box-plots: the five numbers of each box, the single values beside it, and the spec that draws them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import altair as alt
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from axiom_bench.report.charts import look, scales
from axiom_bench.report.charts.chart import Panel, columns
from axiom_bench.report.figures import axis
from axiom_bench.report.figures.axis import Axis
from axiom_bench.statistics.bootstrap import Floats
from axiom_bench.statistics.groups import BoxGroup
from axiom_bench.statistics.metadata import Value

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


def panel(
    title: str, description: str, groups: Mapping[str, BoxGroup], by: str, keys: pd.DataFrame, shown: Shown
) -> Panel:
    """A box for each group, by its name in the column `by`, "method" or "title". keys: `Records.keys`."""
    rows, names, places, values = [], [], [], []
    for name, group in groups.items():
        box = five_numbers(group.values)
        rows.append({by: name, "n": len(group.values), "images": group.images, **box})
        chosen = slice(None) if shown.every_value else farthest_outside(group.values, box)
        values.append(group.values[chosen])
        places.append(group.keys[chosen])
        names += [name] * len(values[-1])
    own = keys.iloc[np.concatenate(places)]
    about = {by: names, "image": own["image_id"].to_numpy(), "class": own["target_class"].to_numpy()}
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
        fitted = axis.fit([group.values for group in groups])
        return cls(value, fitted, fitted.low if fitted.log else _least(groups), every_value)

    @property
    def params(self) -> dict[str, Any]:
        """Values of the spec's parameters; a logarithmic axis has no place for 0."""
        limits = scales.limits(self.axis.low, self.axis.high, self.axis.log)
        return {**limits, "least": self.least, "title": look.axis_title(self.value)}

    @property
    def caption(self) -> str:
        """What is drawn, without n."""
        dots = f"Dots are values beyond the whiskers, of each box the {MAX_OUTSIDE} farthest from its median."
        if self.every_value:
            dots = "Each dot is one value, an image and an explained class."
        return f"{CAPTION} {dots} {self.axis.note}".strip()


def _least(groups: Iterable[BoxGroup]) -> float:
    return min(float(group.values.min()) for group in groups)


def specs() -> dict[str, Callable[[], dict[str, Any]]]:
    """What builds either spec, by its name."""
    return {name: partial(spec, log) for log, name in SPECS.items()}


def spec(log: bool) -> dict[str, Any]:
    """Boxes on their side, one below the other. Tables: `boxes` with the columns of ROW, `values` of VALUE; `title` may
    come from `method`. Parameters: low, high, title; least: where smaller values are drawn."""
    y = alt.Y("title:N", sort=None, title=None, axis=alt.Axis(grid=False, labelColor=look.INK))

    def x(column: str) -> alt.X:
        return alt.X(f"{column}:Q", scale=scales.between_limits(log), axis=scales.axis())

    colour, fill = alt.Color("colour:N", scale=None), alt.Fill("colour:N", scale=None)
    boxes = alt.Chart(alt.NamedData("boxes")).transform_filter(look.SHOWN)
    for name in ("low", "q1", "median", "q3", "high", "mean"):
        boxes = boxes.transform_calculate(f"{name}_at", f"max(datum.{name}, least)")
    values = alt.Chart(alt.NamedData("values")).transform_filter(look.SHOWN)
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
        means.encode(x("mean_at"), y, fill=alt.value(look.PAGE), stroke=alt.value(look.INK)),
    )
    title = alt.TitleParams(alt.ExprRef("title"))
    return look.finished(alt.layer(*layers, title=title), HOVER, ("least", "title", *scales.LIMITS))
