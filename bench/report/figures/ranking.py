"""Which method leads in what: every metric with a direction as a row, every method as a column, in one picture."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from axiom_bench.report.figures.drawing import LETTER, SMALL, Drawing, LeftOut, canvas, wrapped
from axiom_bench.report.sizes import COLUMN, HEIGHT, PAGE
from axiom_bench.statistics.metadata import Setting, Value, rows_at
from axiom_bench.statistics.numbers import FLOAT32_ROUNDING, NOTHING, number
from axiom_bench.statistics.run_folder import METHOD_FREE, RunFolder
from axiom_bench.statistics.summary import leading

TITLE = "Which method leads in what"
ARROWS = {"lower": "\N{DOWNWARDS ARROW}", "higher": "\N{UPWARDS ARROW}"}
WRITTEN = 0.37  # inches: the width of a cell from which on its value is written into it
NAME = {PAGE: 40, COLUMN: 22}  # letters of a metric's title in one line
LINE, GAP = 0.115, 0.05  # inches: the height of a line of text, and what is above it in its row
LIGHTER = 1.3  # of the colours' range: the darkest would drown the numbers
DARK = 0.7  # from here on the number is white
EACH_ROW = "each row orders the methods by one metric, from the best (dark) to the last (white)"
CHANCE = "A place says nothing of chance: see the errors in the tables."


def draw(run: RunFolder) -> Iterator[Drawing | LeftOut]:
    """One figure for each setting that has several methods; where there are several such, first one over all."""
    values = [value for value in map(run.metadata.value, run.metrics) if value.has_direction]
    summary = leading(run.summary[run.summary["method"] != METHOD_FREE])
    tables = {setting: leads(rows_at(summary, setting), values) for setting in run.settings}
    fitting = {
        setting: table
        for setting, table in tables.items()
        if table.shape[1] > 1 and len(table) and not run.metadata.has_random_weights(setting.model)
    }
    if len(fitting) > 1:
        yield _over_all(run, fitting, values)
    for count, setting in enumerate(run.settings):
        title = f"{TITLE}, {run.label(setting)}"
        if setting in fitting:
            name = f"ranking_{count}" if len(run.settings) > 1 else "ranking"
            yield _of_one(run, setting, name, title, fitting[setting])
        elif run.metadata.has_random_weights(setting.model):
            yield LeftOut(title, "The weights are random: values of an untrained network rank no method.")
        else:
            yield LeftOut(title, "It takes two methods with values, and a metric with a direction.")


def leads(summary: pd.DataFrame, values: list[Value]) -> pd.DataFrame:
    """Metrics x methods: the statistic that tables lead with, over the images that all compared methods have; without
    rows and columns that have no value."""
    rows = summary[summary["metric"].isin([value.name for value in values]) & summary["compared"]]
    lead = {value.name: value.lead for value in values}
    leads = [
        row["common_mean" if row["whole_set"] else f"common_{lead[str(row['metric'])]}"] for _, row in rows.iterrows()
    ]
    table = rows.assign(lead=np.array(leads, dtype=float)).pivot(index="metric", columns="method", values="lead")
    ordered = table.reindex(index=list(lead), columns=list(dict.fromkeys(rows["method"])))
    return ordered.dropna(how="all").dropna(how="all", axis=1)


def places(row: pd.Series, better: str) -> pd.Series:
    """1 for the best method; those that print alike have the mean of their places; NaN for one without a value."""
    printed = row.map(lambda value: 0.0 if abs(value) < FLOAT32_ROUNDING else float(f"{value:.3g}"))
    return printed.rank(method="average", ascending=better == "lower")


def ahead(table: pd.DataFrame, values: Iterable[Value]) -> pd.DataFrame:
    """The share of a row's other methods that do worse: 1 for the best, 0 for the last, 1/2 for all where all print
    alike. Metrics x methods -> the same; values: the rows', and perhaps more."""
    better = {value.name: value.better for value in values}
    rows = [places(row, better[str(name)]) for name, row in table.iterrows()]
    place = pd.DataFrame(np.array(rows), index=table.index, columns=table.columns)
    return 1 - (place - 1).div((place.notna().sum(axis=1) - 1).clip(lower=1), axis=0)


def _of_one(run: RunFolder, setting: Setting, name: str, title: str, table: pd.DataFrame) -> Drawing:
    values = [run.metadata.value(metric) for metric in table.index]
    shown = "Numbers are" if _is_written(table, PAGE) else "The order is by"
    caption = (
        f"{run.label(setting)}: {EACH_ROW}; those that print alike have one colour, and a dash is no value to compare. "
        f"{shown} what tables lead with: the value of the whole data set, the median of a ratio, else the mean; on the "
        f"images that all compared methods have. {CHANCE}"
    )
    plot = partial(_plot, ahead(table, values), table.map(number), values, _titles(run, table))
    return Drawing(name, title, caption, plot, in_column=_fits(table, values))


def _over_all(run: RunFolder, tables: Mapping[Setting, pd.DataFrame], values: list[Value]) -> Drawing:
    """The mean over settings, which counts each network once, whatever its values."""
    shares = pd.concat([ahead(table, values) for table in tables.values()])
    mean = shares.groupby(level=0).mean()
    methods = [name for name in (run.manifest.get("methods") or shares.columns) if name in shares.columns]
    ordered = [value for value in values if value.name in mean.index]
    mean = mean.reindex(index=[value.name for value in ordered], columns=methods)
    written = mean.map(lambda share: NOTHING if np.isnan(share) else f"{100 * share:.0f}")
    caption = (
        f"Over {len(tables)} settings ({', '.join(map(run.label, tables))}): {EACH_ROW}. Numbers are per cent: how "
        f"many of the other methods do worse, mean over the settings; 50 where all print alike. {CHANCE}"
    )
    plot = partial(_plot, mean, written, ordered, _titles(run, mean))
    return Drawing("ranking_over_all", f"{TITLE}, over all", caption, plot, in_column=_fits(mean, ordered))


def _titles(run: RunFolder, table: pd.DataFrame) -> list[str]:
    return [run.metadata.method_title(str(method)) for method in table.columns]


def _labels(values: Sequence[Value], width: float) -> list[str]:
    """The metrics' titles with an arrow to the better."""
    return [wrapped(f"{value.title} {ARROWS[value.better]}", NAME[width]) for value in values]


def _side(table: pd.DataFrame, width: float, labels: Sequence[str] = ()) -> float:
    """The width of a cell, in inches."""
    longest = max((len(line) for label in labels for line in label.split("\n")), default=NAME[width])
    return (width - 0.15 - LETTER * longest) / table.shape[1]


def _is_written(table: pd.DataFrame, width: float) -> bool:
    return _side(table, width) >= WRITTEN


def _fits(table: pd.DataFrame, values: Sequence[Value]) -> bool:
    """Whether the figure can be read in a column: room for a name above each method, and for all metrics on a page."""
    labels = _labels(values, COLUMN)
    height = 1.6 + sum(LINE * (1 + label.count("\n")) + GAP for label in labels)
    return _side(table, COLUMN, labels) >= LINE and height <= HEIGHT


def _plot(
    shares: pd.DataFrame, texts: pd.DataFrame, values: Sequence[Value], titles: Sequence[str], width: float
) -> Figure:
    """Metrics x methods: coloured by share, with a text in each cell where there is room."""
    labels = _labels(values, width)
    heights = LINE * (1 + max(label.count("\n") for label in labels)) + GAP
    longest = max(map(len, titles))
    figure = canvas(width, 0.3 + LETTER * longest + heights * len(labels))
    axes = figure.subplots()
    axes.imshow(shares, vmin=0, vmax=LIGHTER, cmap="Blues", aspect="auto")
    axes.set_xticks(range(shares.shape[1]), titles, rotation=90)
    axes.set_yticks(range(len(values)), labels)
    axes.tick_params(length=0)
    axes.grid(visible=False)
    if _is_written(shares, width):
        for (row, column), share in np.ndenumerate(shares.to_numpy()):
            colour = "white" if share > DARK else "0.2"
            text = str(texts.iat[row, column])
            axes.text(column, row, text, ha="center", va="center", fontsize=SMALL, color=colour)
    return figure
