"""Do metrics agree on the methods? Kendall's tau between every two metrics, over the methods of one network."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import Any

import altair as alt
import numpy as np
import pandas as pd
from scipy.stats import kendalltau

from axiom_bench.judging.agreement import disagreement
from axiom_bench.judging.judgement import compared_values, is_small, spoiled_methods
from axiom_bench.report.charts import vega
from axiom_bench.report.charts.chart import Chart, Choice, Panel, columns, metrics_in_order
from axiom_bench.statistics.labels import FLOAT32_ROUNDING, Setting, rows_at
from axiom_bench.statistics.run_folder import METHOD_FREE, RunFolder
from axiom_bench.statistics.summary import leading

TITLE = "Agreement of metrics"
MIN_METHODS = 4  # of fewer, every order is likely by chance
CELL = 26  # pixels of a cell's height
MIN_CELL = 13  # pixels of its width: of more cells than fit, the panel scrolls
LABELS = 190  # pixels of the metrics' names
AXIS = 152  # pixels below the cells, for these names at an angle
COLOURS = (
    "#b35806",
    "#f1a340",
    "#f7f7f7",
    "#998ec3",
    "#542788",
)  # ColorBrewer's PuOr
DIGITS = 3  # significant, as numbers are printed: closer values tie


def chart(run: RunFolder) -> Chart | None:
    """A panel for each network with two metrics that have a direction and MIN_METHODS methods in common."""
    tables = {setting: table for setting in run.settings if len(table := _values(run, setting)) > 1}
    panels, counts = [], []
    for setting, table in tables.items():
        cells = agreement(table)
        if cells.empty:
            continue
        cells = _with_intervals(run, setting, cells)
        label = run.label(setting)
        counts.append(f"{label} {cells['n'].min()} to {cells['n'].max()}")
        description = f"{TITLE} on {label}: Kendall's tau."
        titles = [run.metadata.value(name).title for name in table.index if name in {*cells["row"], *cells["column"]}]
        cells = cells.assign(
            **{key: [run.metadata.value(name).title for name in cells[key]] for key in ("row", "column")}
        )
        params = {"columns": titles[:-1], "rows": titles[1:]}
        size = {"height": CELL * (len(titles) - 1), "min_width": LABELS + MIN_CELL * (len(titles) - 1)}
        size["axis"] = AXIS
        panels.append(Panel(label, "agreement", description, {"cells": columns(cells)}, params=params, **size))
    caption = (
        "Kendall's tau-b between two metrics, over the methods that both have a value of: 1 where they put all methods "
        "in one order, \N{MINUS SIGN}1 in opposite orders. Each metric by what tables lead with, turned so that more "
        f"is better. Methods: {', '.join(counts)}; those with the same values in all metrics count once, and of fewer "
        f"than {MIN_METHODS} a cell is empty. Over so few, tau is rough: p is the chance of one as far from 0 if the "
        "orders had nothing in common, for one pair of metrics; from, to: the 95 % interval by a bootstrap over images."
    )
    return Chart("agreement", TITLE, "", [Choice(TITLE, caption, panels)], {"agreement": _spec}) if panels else None


def agreement(values: pd.DataFrame) -> pd.DataFrame:
    """For each two metrics their tau, p and n, the number of methods; none of fewer than MIN_METHODS methods.

    values: metrics x methods, more is better, NaN where a method has no value. Methods whose values are equal in all
    metrics count once, and values that print alike tie. row: the later of the two metrics.
    """
    rounded = values.map(lambda value: 0.0 if abs(value) < FLOAT32_ROUNDING else float(f"{value:.{DIGITS}g}"))
    rounded = rounded.T.drop_duplicates().T
    cells = list(_cells(rounded))
    return pd.DataFrame(cells, columns=["row", "column", "tau", "p", "n"])


def _cells(values: pd.DataFrame) -> Iterator[tuple[Any, ...]]:
    for first, second in combinations(values.index, 2):
        both = values.loc[[first, second]].dropna(axis="columns")
        if both.shape[1] >= MIN_METHODS:
            test = kendalltau(both.loc[first], both.loc[second])
            if np.isfinite(test.statistic):  # not where a metric is the same for all methods
                yield second, first, float(test.statistic), float(test.pvalue), both.shape[1]


def _with_intervals(run: RunFolder, setting: Setting, cells: pd.DataFrame) -> pd.DataFrame:
    """The cells with low and high; NaN for values of the whole data set, and in a run with very many values. tau is
    the one that the interval is of, where there is one."""
    names = list(dict.fromkeys([*cells["column"], *cells["row"]])) if is_small(run) else []
    judged = disagreement(compared_values(run, setting, names))
    turned = judged.rename(columns={"row": "column", "column": "row"})
    both = pd.concat([judged, turned]).rename(columns={"tau": "judged"}).drop(columns="methods")
    merged = cells.merge(both.astype({"row": object, "column": object}), on=["row", "column"], how="left")
    numbers = merged.astype(dict.fromkeys(("judged", "low", "high"), float))
    return numbers.assign(tau=numbers["judged"].fillna(numbers["tau"])).drop(columns="judged")


def _values(run: RunFolder, setting: Setting) -> pd.DataFrame:
    """Metrics with a direction x methods: what tables lead with, on the images that all compared methods have."""
    rows = rows_at(leading(run.summary), setting)
    rows = rows[~rows["method"].isin({METHOD_FREE, *spoiled_methods(run)}) & rows["compared"].astype(bool)]
    values = {}
    for name in metrics_in_order(run, set(rows["metric"])):
        value = run.metadata.value(name)
        own = rows[rows["metric"] == name].set_index("method")[f"common_{value.lead}"].dropna()
        if value.has_direction and len(own):
            values[name] = own if value.better == "higher" else -own
    return pd.DataFrame(values).T


def _spec() -> dict[str, Any]:
    cells = alt.Chart(alt.NamedData("cells"))
    axis: dict[str, Any] = {"grid": False, "labelColor": vega.INK, "labelLimit": LABELS, "labelOverlap": False}
    x_scale, y_scale = (alt.Scale(domain=alt.ExprRef(name), paddingInner=0.06) for name in ("columns", "rows"))
    x = alt.X("column:N", sort=None, scale=x_scale, title=None, axis=alt.Axis(labelAngle=-45, **axis))
    y = alt.Y("row:N", sort=None, scale=y_scale, title=None, axis=alt.Axis(**axis))
    colour = alt.Color("tau:Q", scale=alt.Scale(domain=[-1, -0.5, 0, 0.5, 1], range=list(COLOURS)), legend=None)
    squares = cells.mark_rect().encode(x, y, colour)
    dark = alt.when("abs(datum.tau) > 0.6").then(alt.value("#fff")).otherwise(alt.value("#222"))
    room = alt.when("width / length(columns) > 27").then(alt.value(1)).otherwise(alt.value(0))
    texts = cells.transform_calculate(text="format(datum.tau, '.1f')").mark_text(fontSize=11)
    texts = texts.encode(x, y, alt.Text("text:N"), color=dark, opacity=room)
    hover = {
        "row": "Metric",
        "column": "and",
        "tau": "Kendall's tau",
        "low": "from",
        "high": "to",
        "p": "p",
        "n": "Methods",
    }
    return vega.finished(alt.layer(squares, texts), {"cells": hover}, ("columns", "rows"))
