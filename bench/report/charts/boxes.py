"""Box-plots: the five numbers of each box, the single values beside it, and the spec that draws them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt
import pandas as pd

from axiom_bench.report.charts import look

WHISKER = 1.5  # interquartile ranges beyond the quartiles (Tukey)
STEP = 24  # pixels a box
MAX_VALUES = 40_000  # single values of a chart, about a megabyte in the page; of more, those beyond the whiskers
MAX_OUTSIDE = 20  # of a box
CAPTION = "Boxes: quartiles and median; whiskers to the last value within 1.5 interquartile ranges; diamonds: means."
ROW = {"group": "Of", "n": "Values", "images": "Images", "median": "Median", "q1": "Lower quartile",
       "q3": "Upper quartile", "low": "Lower whisker", "high": "Upper whisker", "mean": "Mean"}  # fmt: skip
VALUE = {"group": "Of", "image": "Image", "class": "Class", "value": "Value"}
HOVER = {"boxes": ROW, "values": VALUE}


def five_numbers(rows: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """One row for each group of `by`: n, images, low, q1, median, q3, high, mean; of rows with value and image_id.

    low, high: the whiskers, which reach to the last value within WHISKER interquartile ranges of the quartiles.
    """
    by = list(by)
    groups = rows.groupby(by, observed=True)
    table = groups["value"].quantile([0.25, 0.5, 0.75]).unstack().set_axis(["q1", "median", "q3"], axis=1)
    table = table.join(groups["value"].agg(n="size", mean="mean")).join(groups["image_id"].nunique().rename("images"))
    within = rows[~is_outside(rows, table, by)].groupby(by, observed=True)["value"]
    return table.join(within.agg(low="min", high="max")).reset_index()


def is_outside(rows: pd.DataFrame, boxes: pd.DataFrame, by: Sequence[str]) -> pd.Series:
    """Which rows lie beyond the whiskers of their box. boxes: indexed by `by`, with q1 and q3."""
    quartiles = rows[list(by)].join(boxes[["q1", "q3"]], on=list(by))
    reach = WHISKER * (quartiles["q3"] - quartiles["q1"])
    return (rows["value"] < quartiles["q1"] - reach) | (rows["value"] > quartiles["q3"] + reach)


def tables(rows: pd.DataFrame, by: str, every_value: bool) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The tables `boxes` and `values` of one panel, a box for each entry of the column `by`.

    every_value: all single values; else of each box the MAX_OUTSIDE farthest of those beyond its whiskers.
    """
    table = five_numbers(rows, [by])
    single = rows[[by, "image_id", "target_class", "value"]]
    if not every_value:
        table_by = table.set_index(by)
        single = single[is_outside(single, table_by, [by])]
        distance = (single["value"] - table_by["median"].reindex(single[by]).to_numpy()).abs()
        farthest = distance.groupby(single[by], observed=True).nlargest(MAX_OUTSIDE)
        single = single.loc[farthest.index.get_level_values(-1)]
    single = single.rename(columns={"image_id": "image", "target_class": "class"})
    return table.astype({by: str}), single.astype({by: str})


def values_note(every_value: bool) -> str:
    """For the caption: which single values are drawn."""
    if every_value:
        return "Each dot is one value, an image and an explained class."
    return f"Dots are values beyond the whiskers, of each box the {MAX_OUTSIDE} farthest from the median."


def spec(log: bool) -> dict[str, Any]:
    """Boxes on their side, one below the other. Tables: `boxes` with the columns of ROW, `values` of VALUE; both with
    `colour`, and `method` where a box is a method's. Parameters: low, high, title; least: where smaller ones are drawn.
    """
    y = alt.Y("group:N", sort=None, title=None, axis=alt.Axis(grid=False, labelColor=look.INK))

    def x(column: str) -> alt.X:
        return alt.X(f"{column}:Q", scale=look.scale(log), axis=look.axis(log))

    colour, fill = alt.Color("colour:N", scale=None), alt.Fill("colour:N", scale=None)
    boxes = alt.Chart(alt.NamedData("boxes")).transform_filter(look.SHOWN)
    for name in ("low", "q1", "median", "q3", "high", "mean"):
        boxes = boxes.transform_calculate(f"{name}_at", f"max(datum.{name}, least)")
    values = alt.Chart(alt.NamedData("values")).transform_filter(look.SHOWN)
    values = values.transform_calculate(at="max(datum.value, least)", jitter="(datum.index * 0.618034) % 1")
    offset = alt.YOffset("jitter:Q", scale=alt.Scale(domain=[-0.4, 1.4]))
    dots = values.mark_circle(size=12, opacity=0.4, clip=True, aria=False).encode(x("at"), y, offset, colour)
    whiskers = boxes.mark_rule(strokeWidth=1.5, clip=True, aria=False)
    bars = boxes.mark_bar(size=14, fillOpacity=0.3, strokeWidth=1.5, clip=True, aria=False)
    medians = boxes.mark_tick(thickness=3, size=16, clip=True, aria=False)
    means = boxes.mark_point(shape="diamond", size=45, strokeWidth=1.5, clip=True, aria=False)
    layers = (
        dots,
        whiskers.encode(x("low_at"), y, alt.X2("q1_at"), colour),
        whiskers.encode(x("q3_at"), y, alt.X2("high_at"), colour),
        bars.encode(x("q1_at"), y, alt.X2("q3_at"), fill, alt.Stroke("colour:N", scale=None)),
        medians.encode(x("median_at"), y, colour),
        means.encode(x("mean_at"), y, fill=alt.value(look.PAGE), stroke=alt.value(look.INK)),
    )
    title = alt.TitleParams(alt.ExprRef("title"))
    return look.finished(alt.layer(*layers, title=title), HOVER, ("least", "low", "high", "title"))
