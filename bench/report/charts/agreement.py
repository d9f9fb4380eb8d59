"""The agreement of metrics: Kendall's tau between every two, over the methods that both have a value of."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
import seaborn
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure as Canvas
from scipy.stats import kendalltau

from axiom_bench.judging.agreement import disagreement
from axiom_bench.judging.judgement import compared_values, is_small, spoiled_methods
from axiom_bench.report.charts.drawing import LETTER, SMALL, Chart, Figure, canvas, hover
from axiom_bench.report.charts.styles import metrics_in_order
from axiom_bench.report.charts.svg import mark
from axiom_bench.report.options import PAGE
from axiom_bench.statistics.labels import Setting, rows_at
from axiom_bench.statistics.run_folder import METHOD_FREE, RunFolder
from axiom_bench.statistics.summary import leading

CHART = Chart("agreement", "Agreement of metrics", "Network")
MIN_METHODS = 4  # of fewer, every order is likely by chance
ROW, CELL = 0.2, 0.4  # inches: the height of a cell, and the most of its width
WRITTEN = 0.22  # inches: the width from which on a cell's number is written into it
PUOR = ("#b35806", "#f1a340", "#f7f7f7", "#998ec3", "#542788")  # ColorBrewer's
DIGITS = 3  # significant, as numbers are printed: closer values tie
COLUMNS = {"row": "Metric", "column": "and", "tau": "Kendall's tau", "low": "from", "high": "to", "p": "p",
           "n": "Methods"}  # fmt: skip


def draw(run: RunFolder) -> Iterator[Figure]:
    """A figure for each network with two metrics that have a direction and MIN_METHODS methods in common."""
    for number, setting in enumerate(run.settings):
        values = _leading_values(run, setting)
        cells = agreement(values) if len(values) > 1 else pd.DataFrame()
        if cells.empty:
            continue
        label, titles = run.label(setting), {name: run.metadata.value(name).title for name in values.index}
        frame = _with_intervals(run, setting, cells).replace({"row": titles, "column": titles})
        frame = frame.rename(columns=COLUMNS)[list(COLUMNS.values())]
        caption = (
            "Kendall's tau-b between two metrics, over the methods that both have a value of: 1 where they put all "
            "methods in one order, \N{MINUS SIGN}1 in opposite orders. Each metric by what tables lead with, turned so "
            f"that more is better. Methods: {label} {cells['n'].min()} to {cells['n'].max()}; those with the same "
            f"values in all metrics count once, and of fewer than {MIN_METHODS} a cell is empty. Over so few, tau is "
            "rough: p is the chance of one as far from 0 if the orders had nothing in common, for one pair of metrics. "
            "From, to: the 95 % interval by a bootstrap over images."
        )
        rows, columns = ([title for title in titles.values() if title in {*frame[name]}] for name in ("Metric", "and"))
        name = "agreement" if len(run.settings) == 1 else f"agreement_{number}"
        plot = partial(_plot, frame, rows, columns)
        yield Figure(name, f"{CHART.title}, {label}", caption, plot, chart=CHART, label=label, frame=frame)


def agreement(values: pd.DataFrame) -> pd.DataFrame:
    """For each two metrics their tau, p and n, the number of methods; none of fewer than MIN_METHODS methods.

    values: metrics x methods, more is better, NaN where a method has no value. Methods whose values are equal in all
    metrics count once, and values that print alike tie. row: the later of the two metrics.
    """
    rounded = values.map(lambda value: float(f"{value:.{DIGITS}g}"))
    rows = rounded.T.drop_duplicates().T.to_numpy()
    cells = []
    for first, second in combinations(range(len(rows)), 2):
        both = ~np.isnan(rows[[first, second]]).any(axis=0)
        if (count := int(both.sum())) >= MIN_METHODS:
            test = kendalltau(rows[first, both], rows[second, both])
            if np.isfinite(test.statistic):  # not where a metric is the same for all methods
                names = (values.index[second], values.index[first])
                cells.append((*names, float(test.statistic), float(test.pvalue), count))
    return pd.DataFrame(cells, columns=["row", "column", "tau", "p", "n"])


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


def _leading_values(run: RunFolder, setting: Setting) -> pd.DataFrame:
    """Metrics with a direction x methods: what tables lead with, on the images that all compared methods have."""
    rows = rows_at(leading(run.summary), setting)
    rows = rows[~rows["method"].isin({METHOD_FREE, *spoiled_methods(run)}) & rows["compared"].astype(bool)]
    values = {}
    for name in metrics_in_order(run, set(rows["metric"])):
        value = run.metadata.value(name)
        selected = rows[rows["metric"] == name].set_index("method")[f"common_{value.lead}"].dropna()
        if value.has_direction and len(selected):
            selected = selected.where(selected.abs() >= value.rounding, 0.0)
            values[name] = selected if value.better == "higher" else -selected
    return pd.DataFrame(values).T


def _plot(frame: pd.DataFrame, rows: list[str], columns: list[str]) -> Canvas:
    """rows, columns: the metrics, the earlier as columns and the later as rows."""
    cells = frame.assign(text=hover(frame)).pivot(index="Metric", columns="and").reindex(index=rows)
    label = LETTER * max(map(len, [*rows, *columns])) + 0.2
    width = min(CELL, (PAGE - label) / len(columns))
    figure = canvas(label + width * len(columns), 0.7 * label + ROW * len(rows))
    axes = figure.subplots()
    look: dict[str, Any] = {"vmin": -1, "vmax": 1, "cmap": LinearSegmentedColormap.from_list("PuOr", PUOR)}
    look |= {"annot": width >= WRITTEN, "fmt": ".1f", "annot_kws": {"size": SMALL - 1}, "cbar": False}
    seaborn.heatmap(cells["Kendall's tau"][columns], ax=axes, **look)
    mark(axes.collections[0], (), cells["text"][columns].fillna("").to_numpy().ravel().tolist())
    axes.set(xlabel="", ylabel="")
    axes.grid(visible=False)
    axes.set_yticks(np.arange(len(rows)) + 0.5, rows, rotation=0)
    axes.set_xticks(np.arange(len(columns)) + 0.5, columns, rotation=45, ha="right", rotation_mode="anchor")
    return figure
