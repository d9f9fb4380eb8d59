"""The `layers` experiment: the axiom errors against depth, of the layers themselves and of every method."""

from __future__ import annotations

from functools import partial
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from axiom_bench.columns import OK
from axiom_bench.report.charts import look, scales
from axiom_bench.report.charts.chart import Chart, Choice, Panel, beside, columns
from axiom_bench.report.figures.captions import counts_by
from axiom_bench.report.options import options_of
from axiom_bench.statistics.metadata import Value
from axiom_bench.statistics.numbers import FLOAT32_ROUNDING
from axiom_bench.statistics.run_folder import METHOD_FREE, RunFolder

HEIGHT = 300
SPREAD = 30.0  # of the largest to the smallest median: from here on a linear axis hides the small ones
SPECS = {False: "by-depth", True: "by-depth-log"}
HOVER = {
    **{"title": "Name", "layer": "Layer", "median": "Median", "q1": "Lower quartile", "q3": "Upper quartile"},
    **{"n": "Rows", "images": "Images", "also": "Also here"},
}
PLACE = ["model", "data", "layer"]
Place = tuple[str, str]  # a model and a data set


def chart(run: RunFolder) -> Chart | None:
    """A choice for each error of `config.report.figures.by_depth` and `plane`, a panel for each model and data set with
    several layers; None where none has several."""
    layers: dict[Place, list[str]] = {}
    for setting in run.settings:
        layers.setdefault((setting.model, setting.data), []).append(setting.layer)
    deep = {place: names for place, names in layers.items() if len(names) > 1}
    if not deep:
        return None
    errors = dict.fromkeys((*options_of(run).figures.by_depth, *options_of(run).figures.plane))
    rows = run.records.rows(errors)
    rows = rows[rows["status"] == OK]
    rows = rows[[place in deep for place in zip(rows["model"], rows["data"], strict=True)]]
    measured = set(rows["metric"].unique())
    choices = [
        _choice(run, run.metadata.value(name), rows[rows["metric"] == name], deep)
        for name in errors
        if name in measured
    ]
    specs = {name: partial(_spec, log) for log, name in SPECS.items()}
    return Chart("by-depth", "Axiom errors by depth", "Error", choices, specs) if choices else None


def _choice(run: RunFolder, value: Value, rows: pd.DataFrame, deep: dict[Place, list[str]]) -> Choice:
    table = _quartiles(rows)
    log, least = _scale(table["median"])
    is_free = table["method"].eq(METHOD_FREE).all()  # a band between the quartiles, which many methods' would hide
    drawn = table[["q1", "q3"] if is_free else ["median"]].clip(lower=least).to_numpy()
    low = float(drawn.min()) if log else min(float(drawn.min()), 0.0)
    params = {**scales.limits(low, float(drawn.max()), log), "least": least}
    params |= {"title": f"Median {look.small(look.axis_title(value))}", "band": bool(is_free)}
    panels = []
    for (model, data), layers in deep.items():
        own = table[(table["model"] == model) & (table["data"] == data)]
        if not own.empty:
            label = model if len({data for _, data in deep}) == 1 else f"{model} ({data})"
            description = f"{value.title} by depth, {label}."
            tables = {"points": columns(_points(run, own, layers))}
            panels.append(Panel(label, SPECS[log], description, tables, HEIGHT, params | {"layers": layers}))
    statistics = "Medians, and the band between the quartiles." if is_free else "Medians."
    below = (
        " Medians below its low end, which are rounding, are drawn there." if table["median"].lt(least).any() else ""
    )
    caption = (
        f"Layers in the order in which the network runs them. {statistics} {counts_by(rows, [*PLACE, 'method'])} a "
        f"median.{f' Logarithmic axis.{below}' if log else ''}"
    )
    return Choice(value.title, caption, panels)


def _quartiles(rows: pd.DataFrame) -> pd.DataFrame:
    groups = rows.groupby([*PLACE, "method"], observed=True)
    table = groups["value"].quantile(np.array([0.25, 0.5, 0.75])).unstack().set_axis(["q1", "median", "q3"], axis=1)
    table = table.join(groups["value"].agg(n="size")).join(groups["image_id"].agg(images="nunique"))
    return table.reset_index().astype(dict.fromkeys([*PLACE, "method"], str))


def _points(run: RunFolder, table: pd.DataFrame, layers: list[str]) -> pd.DataFrame:
    table = table.assign(place=table["layer"].map(layers.index)).sort_values("place", kind="stable")
    titles = [run.metadata.method_title(name) for name in table["method"]]
    table = table.assign(also=beside(titles, table.pop("place"), table["median"])).drop(columns=["model", "data"])
    is_free = table["method"].eq(METHOD_FREE).all()
    return table.drop(columns="method").assign(title="All methods") if is_free else table


def _scale(medians: pd.Series) -> tuple[bool, float]:
    """Whether the axis is logarithmic, and the least value on it."""
    bulk = medians[medians >= FLOAT32_ROUNDING]
    if medians.min() < 0 or bulk.empty or bulk.max() <= SPREAD * bulk.min():
        return False, float(medians.min())
    return True, float(max(bulk.min() / 3, FLOAT32_ROUNDING))


def _spec(log: bool) -> dict[str, Any]:
    x_axis = alt.Axis(title="Layer", labelAngle=-35, labelOverlap=True, grid=False)
    x = alt.X("layer:N", scale=alt.Scale(type="point", domain=alt.ExprRef("layers"), padding=0.3), axis=x_axis)

    def y(column: str) -> alt.Y:
        return alt.Y(f"{column}:Q", scale=scales.between_limits(log), axis=scales.axis())

    data = alt.Chart(alt.NamedData("points")).transform_filter(look.SHOWN)
    for name in ("q1", "median", "q3"):
        data = data.transform_calculate(f"{name}_at", f"max(datum.{name}, least)")
    colour, group = alt.Color("colour:N", scale=None), alt.Detail("title:N")
    band = data.transform_filter("band").mark_area(opacity=0.2, clip=True)
    line = data.mark_line(strokeWidth=2)
    point = data.mark_point(size=60, filled=True, opacity=1)
    layers = (
        band.encode(x, y("q1_at"), alt.Y2("q3_at"), alt.Fill("colour:N", scale=None), group),
        line.encode(x, y("median_at"), colour, group, alt.StrokeDash("dash:N", scale=None)),
        point.encode(x, y("median_at"), colour, alt.Shape("shape:N", scale=None)),
    )
    title = alt.TitleParams(alt.ExprRef("title"), orient="left", anchor="middle")
    params = ("title", "least", "layers", "band", *scales.LIMITS)
    return look.finished(alt.layer(*layers, title=title), {"points": HOVER}, params)
