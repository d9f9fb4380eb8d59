"""Fig 2 of the paper: a method-free error (normalised zeta, epsilon) as box-plots over the models, the means above."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import pandas as pd
from matplotlib.figure import Figure

from axiom_bench.columns import OK
from axiom_bench.report.figures import axis
from axiom_bench.report.figures.boxes import axis_label, boxes, fewer_points
from axiom_bench.report.figures.captions import counts_of, not_measured
from axiom_bench.report.figures.drawing import LETTER, MUTED, SMALL, Drawing, LeftOut, canvas, wrapped
from axiom_bench.report.options import number_of, options_of
from axiom_bench.statistics.metadata import Value
from axiom_bench.statistics.numbers import number
from axiom_bench.statistics.run_folder import METHOD_FREE, RunFolder

BOX = 0.9  # inches of the width for a box, where there are few
AXIS = 0.6  # for the axis and its label
UPRIGHT = 0.55  # for a box, from which on its label stands upright


def draw(run: RunFolder) -> Iterator[Drawing | LeftOut]:
    """One figure for each metric of `config.report.figures.over_models`."""
    for name in options_of(run).figures.over_models:
        value = run.metadata.value(name)
        title, number = f"{value.title} over models", number_of(run, name)
        rows = run.records.rows([name])
        rows = rows[(rows["method"] == METHOD_FREE) & (rows["status"] == OK)]
        if rows.empty:
            yield LeftOut(title, not_measured(run, name), number)
        else:
            yield _drawing(run, name, title, rows, number)


def _drawing(run: RunFolder, name: str, title: str, rows: pd.DataFrame, number: str) -> Drawing:
    labels = {tuple(setting): run.label(setting) for setting in run.settings}
    places = zip(rows["model"], rows["layer"], rows["data"], strict=True)
    table = rows[["image_id", "value"]].assign(where=[labels[place] for place in places])
    order = [label for label in labels.values() if label in set(table["where"])]
    values = [table.loc[table["where"] == label, "value"].to_numpy() for label in order]
    fitted = axis.fit(values)
    counts = ", ".join(f"{label} {counts_of(table[table['where'] == label])}" for label in order)
    notes = " ".join(filter(None, (fitted.note, fewer_points(values))))
    shown = f"{title}, one value for each image and explained class; above each box the mean."
    caption = f"{shown} {counts}. {notes}".strip()
    plot = partial(_plot, run.metadata.value(name), table, order, fitted)
    return Drawing(f"over_models_{name}", title, caption, plot, number)


def _plot(value: Value, table: pd.DataFrame, order: Sequence[str], fitted: axis.Axis, width: float) -> Figure:
    means = table.groupby("where")["value"].mean()
    width = min(width, max(2.4, AXIS + BOX * len(order)))
    room = (width - AXIS) / len(order)
    figure = canvas(width, 2.6 if room >= UPRIGHT else 3.0)
    axes = figure.subplots()
    values = [fitted.drawn(table.loc[table["where"] == label, "value"].to_numpy()) for label in order]
    boxes(axes, values, [MUTED] * len(order), upright=True)
    axis.apply(fitted, axes)
    axes.set(xlabel="", ylabel=axis_label(value))
    for place, label in enumerate(order):
        above = axes.text(place, 1.015, f"mean\n{number(means[label])}", ha="center", va="bottom", size=SMALL)
        above.set_transform(axes.get_xaxis_transform())
    if room >= UPRIGHT:
        axes.set_xticks(range(len(order)), [wrapped(label, int(room / LETTER) - 2) for label in order])
    else:
        axes.set_xticks(range(len(order)), order, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_xlim(-0.6, len(order) - 0.4)
    return figure
