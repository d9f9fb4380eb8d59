"""Perturbation curves: the model's output against the share of the pixels that is changed, a line for each method."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from axiom_bench.report.charts import look, scales
from axiom_bench.report.charts.chart import Chart, Choice, Panel, beside, columns
from axiom_bench.statistics.groups import MeanCurve, mean_curves
from axiom_bench.statistics.numbers import counts_text
from axiom_bench.statistics.run_folder import RunFolder

HEIGHT = 300
MAX_POINTS = 65  # of a curve that are drawn


def chart(run: RunFolder) -> Chart | None:
    """A choice for each curve with an axis in the manifest; None for a run without such."""
    axes: Mapping[str, Mapping[str, Any]] = run.manifest.get("axes") or {}
    curves = mean_curves(run, axes)
    choices: list[Choice] = []
    specs: dict[str, Callable[[], dict[str, Any]]] = {}
    for name, axis in axes.items():
        own = [curve for curve in curves if curve.curve == name and len(curve.mean) == len(axis["at"])]
        if own:
            specs[f"curve-{name}"] = partial(_spec, axis)
            choices.append(_choice(run, name, axis, own))
    return Chart("curves", "Perturbation curves", "Curve", choices, specs) if choices else None


def _choice(run: RunFolder, name: str, axis: Mapping[str, Any], curves: Sequence[MeanCurve]) -> Choice:
    ends = np.concatenate([_band(curve).ravel() for curve in curves])
    limits = scales.limits(float(ends.min()), float(ends.max()), log=False)
    title = str(axis.get("title", name))
    panels = []
    for setting in dict.fromkeys(curve.setting for curve in curves):
        own = [curve for curve in curves if curve.setting == setting]
        label = run.label(setting)
        description = f"{title} on {label}, a line for each method."
        tables = {"points": columns(_points(run, axis["at"], own))}
        panels.append(Panel(label, f"curve-{name}", description, tables, HEIGHT, limits))
    counts = counts_text((curve.images for curve in curves), (curve.rows for curve in curves))
    caption = f"Means over rows; bands are their 95 % confidence intervals, by image. {counts} a curve."
    return Choice(title, caption, panels)


def _points(run: RunFolder, at: Sequence[float], curves: Sequence[MeanCurve]) -> pd.DataFrame:
    drawn = np.unique(np.linspace(0, len(at) - 1, MAX_POINTS).round().astype(int))
    parts = []
    for curve in curves:
        low, mean, high = _band(curve)[:, drawn]
        points = {"at": np.asarray(at, dtype=float)[drawn], "mean": mean, "low": low, "high": high}
        parts.append(pd.DataFrame({"method": curve.method, **points}))
    table = pd.concat(parts, ignore_index=True)
    titles = [run.metadata.method_title(name) for name in table["method"]]
    return table.assign(also=beside(titles, table["at"], table["mean"]))


def _band(curve: MeanCurve) -> np.ndarray:
    """(3, n): the low end, the mean, the high end; without a band where there is one image."""
    half = np.nan_to_num(curve.half_width)
    return np.stack([curve.mean - half, curve.mean, curve.mean + half])


def _spec(axis: Mapping[str, Any]) -> dict[str, Any]:
    better = look.BETTER.get(str(axis.get("better")))
    y_title = f"Mean {axis['y']}, {better}" if better else f"Mean {axis['y']}"
    x = alt.X("at:Q", axis=alt.Axis(title=look.capital(str(axis["x"])), tickCount=5))

    def y(column: str) -> alt.Y:
        return alt.Y(f"{column}:Q", scale=scales.between_limits(log=False), axis=scales.axis(y_title))

    data = alt.Chart(alt.NamedData("points")).transform_filter(look.SHOWN)
    fill, colour = alt.Fill("colour:N", scale=None), alt.Color("colour:N", scale=None)
    group = alt.Detail("method:N")
    band = data.mark_area(opacity=0.15, clip=True).encode(x, y("low"), alt.Y2("high"), fill, group)
    line = data.mark_line(strokeWidth=2, clip=True).encode(
        x, y("mean"), colour, group, alt.StrokeDash("dash:N", scale=None)
    )
    near = data.mark_point(size=120, opacity=0, filled=True).encode(x, y("mean"), colour)
    hover = {"title": "Method", "at": look.capital(str(axis["x"])), "mean": "Mean", "low": "95 % interval from",
             "high": "to", "also": "Also here"}  # fmt: skip
    return look.finished(alt.layer(band, line, near), {"points": hover}, (*scales.LIMITS,))
