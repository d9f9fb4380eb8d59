"""Which method leads in what: every metric with a direction as a row, every method as a column, in one picture."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from axiom_bench.report.figures.drawing import Drawing, LeftOut, canvas
from axiom_bench.report.numbers import FLOAT32_ROUNDING, NOTHING, number
from axiom_bench.report.run_folder import METHOD_FREE, RunFolder, Setting, Value, rows_at
from axiom_bench.report.statistics.summary import leading

TITLE = "Which method leads in what"
ARROWS = {"lower": "\N{DOWNWARDS ARROW}", "higher": "\N{UPWARDS ARROW}"}
MAX_WRITTEN = 16  # methods up to which a cell's value is written into it
LIGHTER = 1.3  # of the colours' range: the darkest would drown the numbers
DARK = 0.7  # from here on the number is white
EACH_ROW = "each row orders the methods by one metric, from the best (dark) to the last (white)"
CHANCE = "A place says nothing of chance: see the errors in the tables."


def draw(run: RunFolder) -> Iterator[Drawing | LeftOut]:
    """One figure for each setting that has several methods; where there are several such, first one over all."""
    values = [value for value in map(run.value, run.metrics) if value.has_direction]
    summary = leading(run.summary[run.summary["method"] != METHOD_FREE])
    tables = {setting: leads(rows_at(summary, setting), values) for setting in run.settings}
    fitting = {
        setting: table
        for setting, table in tables.items()
        if table.shape[1] > 1 and len(table) and not run.has_random_weights(setting.model)
    }
    if len(fitting) > 1:
        yield _over_all(run, fitting, values)
    for count, setting in enumerate(run.settings):
        title = f"{TITLE}, {run.label(setting)}"
        if setting in fitting:
            name = f"ranking_{count}" if len(run.settings) > 1 else "ranking"
            yield _of_one(run, setting, name, title, fitting[setting])
        elif run.has_random_weights(setting.model):
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
    values = [run.value(metric) for metric in table.index]
    caption = (
        f"{run.label(setting)}: {EACH_ROW}; those that print alike have one colour, and a dash is no value to compare. "
        f"{'Numbers are what' if _is_written(table) else 'The order is by what'} tables lead with: the value of the "
        f"whole data set, the median of a ratio, else the mean; on the images that all compared methods have. {CHANCE}"
    )
    return Drawing(name, title, caption, partial(_plot, ahead(table, values), table.map(number), values))


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
    return Drawing("ranking_over_all", f"{TITLE}, over all", caption, partial(_plot, mean, written, ordered))


def _is_written(table: pd.DataFrame) -> bool:
    return table.shape[1] <= MAX_WRITTEN


def _plot(shares: pd.DataFrame, texts: pd.DataFrame, values: Sequence[Value]) -> Figure:
    """Metrics x methods: coloured by share, with a text in each cell where there is room."""
    written = _is_written(shares)
    figure = canvas(3.4 + (0.62 if written else 0.27) * shares.shape[1], 1.9 + 0.235 * len(values))
    axes = figure.subplots()
    axes.imshow(shares, vmin=0, vmax=LIGHTER, cmap="Blues", aspect="auto")
    axes.set_xticks(range(shares.shape[1]), list(shares.columns), rotation=90, fontsize=9)
    axes.set_yticks(range(len(values)), [f"{value.title} {ARROWS[value.better]}" for value in values], fontsize=8)
    axes.tick_params(length=0)
    axes.grid(visible=False)
    if written:
        for (row, column), share in np.ndenumerate(shares.to_numpy()):
            colour = "white" if share > DARK else "0.2"
            text = str(texts.iat[row, column])
            axes.text(column, row, text, ha="center", va="center", fontsize=6.5, color=colour)
    return figure
