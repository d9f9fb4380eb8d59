"""Which method leads in what: every metric with a direction as a row, every method as a column, in one picture."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from bench.report.figures.drawing import Drawing, LeftOut, canvas, style
from bench.report.numbers import NOTHING, ROUNDING, number
from bench.report.run_folder import METHOD_FREE, RunFolder, Setting, Value
from bench.report.summary import at, leading, summarise

TITLE = "Which method leads in what"
ARROWS = {"lower": "\N{DOWNWARDS ARROW}", "higher": "\N{UPWARDS ARROW}"}
WRITTEN = 16  # methods up to which a cell's value is written into it
LIGHTER = 1.3  # of the colours' range: the darkest would drown the numbers
DARK = 0.7  # from here on the number is white


def draw(run: RunFolder) -> Iterator[Drawing | LeftOut]:
    """One figure for each setting that has several methods."""
    values = [value for value in map(run.value, run.metrics) if value.better in ARROWS]
    summary = leading(summarise(run.records[run.records["method"] != METHOD_FREE]))
    for count, setting in enumerate(run.settings):
        title = f"{TITLE}, {run.label(setting)}"
        table = leads(at(summary, setting), values)
        if table.shape[1] < 2 or table.empty:
            yield LeftOut(title, "It takes two methods with values, and a metric with a direction.")
            continue
        yield _drawing(run, setting, f"ranking_{count}" if len(run.settings) > 1 else "ranking", title, table)


def leads(summary: pd.DataFrame, values: list[Value]) -> pd.DataFrame:
    """Metrics x methods: what tables lead with; without the rows and columns that have no value at all."""
    rows = summary[summary["metric"].isin([value.name for value in values])]
    lead = {value.name: value.lead for value in values}
    read = [row["mean" if row["whole_set"] else lead[str(row["metric"])]] for _, row in rows.iterrows()]
    table = rows.assign(read=np.array(read, dtype=float)).pivot(index="metric", columns="method", values="read")
    ordered = table.reindex(index=list(lead), columns=list(dict.fromkeys(rows["method"])))
    return ordered.dropna(how="all").dropna(how="all", axis=1)


def places(row: pd.Series, better: str) -> pd.Series:
    """1 for the best method; those that print alike have the mean of their places; NaN for one without a value."""
    printed = row.map(lambda value: 0.0 if abs(value) < ROUNDING else float(f"{value:.3g}"))
    return printed.rank(method="average", ascending=better == "lower")


def _drawing(run: RunFolder, setting: Setting, name: str, title: str, table: pd.DataFrame) -> Drawing:
    values = [run.value(metric) for metric in table.index]
    place = np.array([places(row, value.better) for value, (_, row) in zip(values, table.iterrows(), strict=True)])
    # The share of a row's other methods that do worse: 1 for the best, 1/2 for all where all print alike.
    ahead = 1 - (place - 1) / np.maximum(1, (~np.isnan(place)).sum(1, keepdims=True) - 1)
    written = table.shape[1] <= WRITTEN
    with style():
        figure = canvas(3.4 + (0.62 if written else 0.27) * table.shape[1], 1.9 + 0.235 * len(values))
        axes = figure.subplots()
        axes.imshow(ahead, vmin=0, vmax=LIGHTER, cmap="Blues", aspect="auto")
        axes.set_xticks(range(table.shape[1]), list(table.columns), rotation=90, fontsize=9)
        axes.set_yticks(range(len(values)), [f"{value.title} {ARROWS[value.better]}" for value in values], fontsize=8)
        axes.tick_params(length=0)
        axes.grid(visible=False)
        if written:
            for (row, column), one in np.ndenumerate(table.to_numpy()):
                colour = "white" if ahead[row, column] > DARK else "0.2"
                text = number(one) if np.isfinite(one) else NOTHING
                axes.text(column, row, text, ha="center", va="center", fontsize=6.5, color=colour)
    caption = (
        f"{run.label(setting)}: each row orders the methods by one metric, from the best (dark) to the last (white); "
        "those that print alike have one colour, and a dash is no value. "
        f"{'Numbers are what' if written else 'The order is by what'} tables lead with: the value of the whole data "
        "set, the median of a ratio, else the mean. A place says nothing of how sure it is: see the intervals in the "
        "tables."
    )
    return Drawing(name, title, caption, figure)
