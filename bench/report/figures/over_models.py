"""Fig 2 of the paper: a method-free error (normalised zeta, epsilon) as box-plots over the models, the means above."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import pandas as pd
from matplotlib.figure import Figure

from axiom_bench.columns import OK, WHOLE_SET
from axiom_bench.report.figures import axis
from axiom_bench.report.figures.boxes import axis_label, boxes
from axiom_bench.report.figures.captions import counts_of
from axiom_bench.report.figures.drawing import Drawing, LeftOut, canvas
from axiom_bench.report.numbers import number
from axiom_bench.report.run_folder import METHOD_FREE, RunFolder, Value

MAX_UPRIGHT = 16  # letters of a label; longer ones are turned


def draw(run: RunFolder) -> Iterator[Drawing | LeftOut]:
    """One figure for each metric of `config.report.figures.over_models`."""
    for name in run.options.figures.over_models:
        value = run.value(name)
        title = f"{value.title} over models"
        rows = run.records
        rows = rows[(rows.metric == name) & (rows.method == METHOD_FREE) & (rows.image_id != WHOLE_SET)]
        rows = rows[rows["status"] == OK]
        if rows.empty:
            yield LeftOut(title, f"The run has no values of {name}.")
            continue
        yield _drawing(run, name, title, rows)


def _drawing(run: RunFolder, name: str, title: str, rows: pd.DataFrame) -> Drawing:
    labels = {tuple(setting): run.label(setting) for setting in run.settings}
    places = zip(rows["model"], rows["layer"], rows["data"], strict=True)
    table = rows[["image_id", "value"]].assign(where=[labels[place] for place in places])
    order = [label for label in labels.values() if label in set(table["where"])]
    fitted = axis.fit(table["value"], table["where"])
    counts = ", ".join(f"{label} {counts_of(table[table['where'] == label])}" for label in order)
    caption = (
        f"{title}, one value for each image and explained class; above each box the mean. {counts}. {fitted.note}"
    ).strip()
    return Drawing(f"over_models_{name}", title, caption, partial(_plot, run.value(name), table, order, fitted))


def _plot(value: Value, table: pd.DataFrame, order: Sequence[str], fitted: axis.Axis) -> Figure:
    means, longest = table.groupby("where")["value"].mean(), max(map(len, order))
    figure = canvas(max(4.5, 1.2 + max(1.0, 0.1 * min(longest, MAX_UPRIGHT)) * len(order)), 4.2)
    axes = figure.subplots()
    boxes(axes, table.assign(value=fitted.drawn(table["value"])), "where", "value", list(order))
    axis.apply(fitted, axes)
    axes.set(xlabel="", ylabel=axis_label(value))
    for place, label in enumerate(order):
        above = axes.text(place, 1.015, f"mean\n{number(means[label])}", ha="center", va="bottom", size=9)
        above.set_transform(axes.get_xaxis_transform())
    if longest > MAX_UPRIGHT:
        axes.set_xticks(range(len(order)), order, rotation=30, ha="right", rotation_mode="anchor")
    return figure
