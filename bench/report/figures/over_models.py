"""Fig 2 of the paper: a method-free error (normalised zeta, epsilon) as box-plots over the models, the means above."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from axiom_bench.columns import WHOLE_SET
from axiom_bench.report.figures import axis
from axiom_bench.report.figures.boxes import axis_label, boxes
from axiom_bench.report.figures.drawing import Drawing, LeftOut, canvas, style
from axiom_bench.report.numbers import number
from axiom_bench.report.run_folder import METHOD_FREE, RunFolder

LONG = 16  # letters of a label that stands upright


def draw(run: RunFolder) -> Iterator[Drawing | LeftOut]:
    """One figure for each metric of `config.report.figures.over_models`."""
    for name in run.options.figures.over_models:
        value = run.value(name)
        title = f"{value.title} over models"
        rows = run.records
        rows = rows[(rows.metric == name) & (rows.method == METHOD_FREE) & (rows.image_id != WHOLE_SET)]
        rows = rows[rows["status"] == "ok"]
        if rows.empty:
            yield LeftOut(title, f"The run has no values of {name}.")
            continue
        yield _drawing(run, name, title, rows)


def _drawing(run: RunFolder, name: str, title: str, rows: pd.DataFrame) -> Drawing:
    value = run.value(name)
    labels = {tuple(setting): run.label(setting) for setting in run.settings}
    places = zip(rows["model"], rows["layer"], rows["data"], strict=True)
    shown = pd.DataFrame({"where": [labels[place] for place in places], "value": rows["value"].to_numpy()})
    order = [label for label in labels.values() if label in set(shown["where"])]
    groups, longest = shown.groupby("where")["value"], max(map(len, order))
    with style():
        figure = canvas(max(4.5, 1.2 + max(1.0, 0.1 * min(longest, LONG)) * len(order)), 4.2)
        axes = figure.subplots()
        fitted = axis.fit(shown["value"], shown["where"])
        boxes(axes, shown.assign(value=fitted.drawn(shown["value"])), "where", "value", order)
        axis.apply(fitted, axes)
        axes.set(xlabel="", ylabel=axis_label(value))
        for place, label in enumerate(order):
            above = axes.text(place, 1.015, f"mean\n{number(groups.mean()[label])}", ha="center", va="bottom", size=9)
            above.set_transform(axes.get_xaxis_transform())
        if longest > LONG:
            axes.set_xticks(range(len(order)), order, rotation=30, ha="right", rotation_mode="anchor")
    n = ", ".join(f"{label} {count}" for label, count in groups.size().loc[order].items())
    caption = (
        f"{title}, one value for each image and explained class; above each box the mean. n: {n}. {fitted.note}".strip()
    )
    return Drawing(f"over_models_{name}", title, caption, figure)
