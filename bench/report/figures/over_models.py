"""Fig 2 of the paper: a method-free error (normalised zeta, epsilon) as box-plots over the models, the means above."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from axiom_bench.columns import OK, WHOLE_SET
from axiom_bench.report.figures import axis
from axiom_bench.report.figures.boxes import axis_label, boxes
from axiom_bench.report.figures.captions import counts_of
from axiom_bench.report.figures.drawing import Drawing, LeftOut, canvas, style
from axiom_bench.report.numbers import number
from axiom_bench.report.run_folder import METHOD_FREE, RunFolder

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
    value = run.value(name)
    labels = {tuple(setting): run.label(setting) for setting in run.settings}
    places = zip(rows["model"], rows["layer"], rows["data"], strict=True)
    table = rows[["image_id", "value"]].assign(where=[labels[place] for place in places])
    order = [label for label in labels.values() if label in set(table["where"])]
    means, longest = table.groupby("where")["value"].mean(), max(map(len, order))
    with style():
        figure = canvas(max(4.5, 1.2 + max(1.0, 0.1 * min(longest, MAX_UPRIGHT)) * len(order)), 4.2)
        axes = figure.subplots()
        fitted = axis.fit(table["value"], table["where"])
        boxes(axes, table.assign(value=fitted.drawn(table["value"])), "where", "value", order)
        axis.apply(fitted, axes)
        axes.set(xlabel="", ylabel=axis_label(value))
        for place, label in enumerate(order):
            above = axes.text(place, 1.015, f"mean\n{number(means[label])}", ha="center", va="bottom", size=9)
            above.set_transform(axes.get_xaxis_transform())
        if longest > MAX_UPRIGHT:
            axes.set_xticks(range(len(order)), order, rotation=30, ha="right", rotation_mode="anchor")
    counts = ", ".join(f"{label} {counts_of(table[table['where'] == label])}" for label in order)
    caption = (
        f"{title}, one value for each image and explained class; above each box the mean. {counts}. {fitted.note}"
    ).strip()
    return Drawing(f"over_models_{name}", title, caption, figure)
