"""Matrices: the class that a map points at against the class that it explains, and the agreement of metrics (tau)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache, partial
from itertools import combinations
from typing import Any

import altair as alt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from scipy.stats import kendalltau

from axiom_bench.columns import OK
from axiom_bench.judging.agreement import disagreement
from axiom_bench.judging.judgement import compared_values, is_small, spoiled_methods
from axiom_bench.report.charts import drawing, vega
from axiom_bench.report.charts.drawing import LETTER, SMALL, Drawing, LeftOut
from axiom_bench.report.charts.vega import Chart, Choice, Panel, columns, metrics_in_order
from axiom_bench.report.options import number_of, options_of
from axiom_bench.statistics.labels import Setting, Value, rows_at, share
from axiom_bench.statistics.run_folder import METHOD_FREE, RunFolder
from axiom_bench.statistics.summary import leading

TITLE = "Explained class and class seen"
MAX_CLASSES = 20  # in a matrix: of more, those that are explained most often
SIDE = 2.1  # inches: of a panel
CELL = 0.15  # inches: of a cell from which on its number is written into it
NEEDS = "it takes images of several classes, as those of data=scenes or data=voc, and target=each_label"
LINE = 0.085  # inches: the height of a class's name
DARK = 0.5  # of a row: from here on the number is white


def draw(run: RunFolder) -> Iterator[Drawing | LeftOut]:
    """One figure for each setting and each value that names a class."""
    counts = run.class_records.counts(run.class_records.metrics)
    if not counts.get(OK):
        metric = options_of(run).figures.class_seen
        reason = "No metric is chosen: report.figures.class_seen=METRIC."
        reason = drawing.not_measured(run, metric, NEEDS) if metric else reason
        yield LeftOut(TITLE, reason, options_of(run).figures.numbers.get(str(metric), ""))
    for name in run.class_records.metrics:
        defined = run.class_records.frame([name])
        for number, setting in enumerate(run.settings):
            rows = rows_at(defined[defined["status"] == OK], setting)
            if len(rows):
                yield _drawing(run, run.metadata.value(name), setting, number, rows)


def confusion(rows: pd.DataFrame, classes: list[int]) -> np.ndarray:
    """Per explained class (row) the share of its maps that show each class (column): (n, n), NaN without a map.

    What is seen outside of `classes` counts, but has no column: a row may sum to less than 1.
    """
    seen = rows["value"].astype(int)
    counts = pd.crosstab(rows["target_class"], seen).reindex(index=classes, columns=classes, fill_value=0)
    explained = rows["target_class"].value_counts().reindex(classes)
    return counts.to_numpy() / explained.to_numpy(dtype=float)[:, None]


def _drawing(run: RunFolder, value: Value, setting: Setting, number: int, rows: pd.DataFrame) -> Drawing:
    often = rows["target_class"].value_counts(sort=True)
    classes = sorted(often.index[:MAX_CLASSES])
    methods = [method for method in rows["method"].cat.categories if (rows["method"] == method).any()]
    images = rows.drop_duplicates(["image_id", "target_class"])
    cut = f" The {MAX_CLASSES} of {len(often)} classes that are explained most often."
    caption = (
        f"{run.label(setting)}, {value.title.lower()}: the share of an explained class's maps (a row) that show each "
        f"class (a column); above each method, all its maps that show the class they explain. "
        f"n = {images['image_id'].nunique():,} images, {len(images):,} rows (an image and an explained class)."
    ) + (cut if len(often) > MAX_CLASSES else "")
    name = f"confusion_{value.name}" + (f"_{number}" if len(run.settings) > 1 else "")
    titles = [run.metadata.method_title(method) for method in methods]
    names = [run.class_name(setting.model, index) for index in classes]
    plot = partial(_plot, rows, methods, titles, classes, names)
    return Drawing(name, f"{TITLE}, {run.label(setting)}", caption, plot, number_of(run, value.name))


def _plot(
    rows: pd.DataFrame, methods: list[str], titles: list[str], classes: list[int], names: list[str], width: float
) -> Figure:
    """A panel for each method, all on one scale."""
    label = LETTER * max(map(len, names)) + 0.6
    per_row = drawing.across(len(methods), width - label, SIDE, SIDE + 0.3)
    side = min(SIDE, (width - label) / per_row)
    cell = 0.88 * side / len(classes)
    every = 1 + int(LINE / cell)  # class's name
    figure = drawing.canvas(side * per_row + label, label + (side + 0.25) * -(-len(methods) // per_row))
    all_axes = drawing.panels(figure, len(methods), per_row, sharex=True, sharey=True)
    for axes, method, title in zip(all_axes, methods, titles, strict=True):
        selected = rows[rows["method"] == method]
        matrix = confusion(selected, classes)
        picture = axes.imshow(matrix, vmin=0, vmax=1, cmap="Blues", aspect="equal")
        correct = int((selected["value"] == selected["target_class"]).sum())
        heading = drawing.wrapped(f"{title}: {share(correct, len(selected))}", int(side / LETTER))
        axes.set_title(heading, fontsize=SMALL)
        axes.set_xticks(range(0, len(classes), every), names[::every], rotation=90 if max(map(len, names)) > 2 else 0)
        axes.set_yticks(range(0, len(classes), every), names[::every])
        axes.grid(visible=False)
        if cell >= CELL:
            for (row, column), share_seen in np.ndenumerate(matrix):
                if share_seen >= 0.005:
                    look = {"ha": "center", "va": "center", "color": "white" if share_seen > DARK else "0.2"}
                    axes.text(column, row, f"{100 * share_seen:.0f}", fontsize=SMALL - 1, **look)
    figure.supxlabel("class seen")
    figure.supylabel("class explained")
    bar = figure.colorbar(
        picture, ax=all_axes, location="top", aspect=40, pad=0.02, format=PercentFormatter(1, decimals=0)
    )
    bar.ax.tick_params(labelsize=SMALL)
    return figure


AGREEMENT = "Agreement of metrics"
MIN_METHODS = 4  # of fewer, every order is likely by chance
ROW_HEIGHT = 26  # pixels of a cell's height
MIN_CELL = 13  # pixels of its width: of more cells than fit, the panel scrolls
LABELS = 190  # pixels of the metrics' names
AXIS = 152  # pixels below the cells, for these names at an angle
COLOURS = ("#b35806", "#f1a340", "#f7f7f7", "#998ec3", "#542788")  # ColorBrewer's PuOr
DIGITS = 3  # significant, as numbers are printed: closer values tie


def agreement_chart(run: RunFolder) -> Chart | None:
    """A panel for each network with two metrics that have a direction and MIN_METHODS methods in common."""
    tables = {setting: table for setting in run.settings if len(table := _leading_values(run, setting)) > 1}
    panels, counts = [], []
    for setting, table in tables.items():
        cells = agreement(table)
        if cells.empty:
            continue
        cells = _with_intervals(run, setting, cells)
        label = run.label(setting)
        counts.append(f"{label} {cells['n'].min()} to {cells['n'].max()}")
        description = f"{AGREEMENT} on {label}: Kendall's tau."
        titles = [run.metadata.value(name).title for name in table.index if name in {*cells["row"], *cells["column"]}]
        cells = cells.assign(
            **{key: [run.metadata.value(name).title for name in cells[key]] for key in ("row", "column")}
        )
        params = {"columns": titles[:-1], "rows": titles[1:]}
        size = {"height": ROW_HEIGHT * (len(titles) - 1), "min_width": LABELS + MIN_CELL * (len(titles) - 1)}
        size["axis"] = AXIS
        panels.append(Panel(label, "agreement", description, {"cells": columns(cells)}, params=params, **size))
    caption = (
        "Kendall's tau-b between two metrics, over the methods that both have a value of: 1 where they put all methods "
        "in one order, \N{MINUS SIGN}1 in opposite orders. Each metric by what tables lead with, turned so that more "
        f"is better. Methods: {', '.join(counts)}; those with the same values in all metrics count once, and of fewer "
        f"than {MIN_METHODS} a cell is empty. Over so few, tau is rough: p is the chance of one as far from 0 if the "
        "orders had nothing in common, for one pair of metrics. From, to: the 95 % interval by a bootstrap over images."
    )
    choice = Choice(AGREEMENT, caption, panels)
    return Chart("agreement", AGREEMENT, "", [choice], {"agreement": _spec}) if panels else None


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


@cache
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
    hover = {"row": "Metric", "column": "and", "tau": "Kendall's tau", "low": "from", "high": "to", "p": "p",
             "n": "Methods"}  # fmt: skip
    return vega.finished(alt.layer(squares, texts), {"cells": hover}, ("columns", "rows"))
