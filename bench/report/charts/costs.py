"""Cost against quality: what each method takes for an image, against what a metric says of it."""

from __future__ import annotations

from typing import Any

import altair as alt
import pandas as pd

from axiom_bench.report.charts import vega
from axiom_bench.report.charts.chart import Chart, Choice, Panel, beside, columns, metrics_in_order
from axiom_bench.statistics.labels import Setting, Value, counts_text, rows_at
from axiom_bench.statistics.run_folder import METHOD_FREE, TRACE, RunFolder, milliseconds
from axiom_bench.statistics.summary import leading

HEIGHT = 300
MS = "milliseconds an image, with the trace"


def chart(run: RunFolder) -> Chart | None:
    """A choice for each metric with a direction; None where run time wasn't measured."""
    costs = {setting: ms for setting in run.settings if len(ms := _costs(run, setting)) > 1}
    rows = leading(run.summary)
    rows = rows[(rows["method"] != METHOD_FREE) & (rows["n"] > 0)]
    values = [run.metadata.value(name) for name in metrics_in_order(run, set(rows["metric"]))]
    measured = [value for value in values if value.has_direction]
    choices = [
        choice for value in measured if (choice := _choice(run, value, rows[rows["metric"] == value.name], costs))
    ]
    return Chart("costs", "Cost against quality", "Metric", choices, {"costs": _spec}) if choices else None


def _costs(run: RunFolder, setting: Setting) -> pd.Series:
    """ms an image of each method with its trace."""
    times = milliseconds(run, setting)
    return times.drop(TRACE) + times[TRACE] if TRACE in times else pd.Series(dtype=float)


def _choice(run: RunFolder, value: Value, rows: pd.DataFrame, costs: dict[Setting, pd.Series]) -> Choice | None:
    tables = {setting: _table(run, value, rows_at(rows, setting), ms) for setting, ms in costs.items()}
    tables = {setting: table for setting, table in tables.items() if len(table)}
    if not tables:
        return None
    title = f"{vega.capital(value.lead)} of {vega.small(vega.axis_title(value))}"
    panels = []
    for setting, table in tables.items():
        ends = table[["low", "value", "high"]].to_numpy().ravel()
        params = {"title": title, **_log_axis(table["ms"]), **vega.symlog_params("y", ends)}
        label = run.label(setting)
        description = f"{value.title} of each method against its {MS}, {label}."
        panels.append(Panel(label, "costs", description, {"points": columns(table)}, HEIGHT, params))
    everything = pd.concat(tables.values())
    counts = counts_text(everything["images"], everything["n"])
    caption = (
        f"Cost: run time of trace and method together, measured apart from the run. Quality: the {value.lead} with its "
        f"95 % interval, by image. {counts} a point."
    )
    return Choice(value.title, caption, panels)


def _table(run: RunFolder, value: Value, rows: pd.DataFrame, ms: pd.Series) -> pd.DataFrame:
    rows = rows[rows["method"].isin(ms.index)]
    ends = {end: rows[f"{value.lead}_{end}"].fillna(rows[value.lead]) for end in ("low", "high")}
    table = pd.DataFrame({"method": rows["method"], "ms": rows["method"].map(ms), "value": rows[value.lead], **ends})
    titles = [run.metadata.method_title(name) for name in table["method"]]
    return table.assign(also=beside(titles, table["ms"], table["value"]), n=rows["n"], images=rows["images"])


def _log_axis(ms: pd.Series) -> dict[str, Any]:
    low, high = ms.min() / 1.5, ms.max() * 1.5
    return {"x_low": low, "x_high": high, "x_ticks": vega.log_ticks(low, high)}


def _spec() -> dict[str, Any]:
    domain = [alt.ExprRef("x_low"), alt.ExprRef("x_high")]
    x_axis = alt.Axis(title=vega.capital(MS), values=alt.ExprRef("x_ticks"), labelExpr=vega.LABEL)
    x = alt.X("ms:Q", scale=alt.Scale(type="log", domain=domain, nice=False), axis=x_axis)
    data = alt.Chart(alt.NamedData("points")).transform_filter(vega.SHOWN)
    colour = {"color": alt.Color("colour:N", scale=None)}
    bar = data.mark_rule(strokeWidth=1.5, clip=True)
    point = data.mark_point(size=70, strokeWidth=2, filled=True, opacity=1)
    look_of_point = colour | {"stroke": alt.Stroke("colour:N", scale=None), "shape": alt.Shape("shape:N", scale=None)}
    bar = bar.encode(x, vega.symlog(alt.Y, "y", "low"), alt.Y2("high"), **colour)
    point = point.encode(x, vega.symlog(alt.Y, "y", "value"), **look_of_point)
    hover = {"title": "Method", "ms": vega.capital(MS), "value": "Value", "low": "95 % interval from", "high": "to",
             "n": "Rows", "images": "Images", "also": "Also here"}  # fmt: skip
    title = alt.TitleParams(alt.ExprRef("title"), orient="left", anchor="middle")
    params = ("title", "x_low", "x_high", "x_ticks", *(f"y_{name}" for name in vega.SYMLOG))
    return vega.finished(alt.layer(bar, point, title=title), {"points": hover}, params)
