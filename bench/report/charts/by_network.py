"""The errors that no method decides, as box-plots by network: with the default metrics Fig. 2 of the paper."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial

from matplotlib.figure import Figure

from axiom_bench.report.charts import boxes
from axiom_bench.report.charts.boxes import axis_label, draw_boxes, fewer_points
from axiom_bench.report.charts.chart import Chart, Choice, Panel
from axiom_bench.report.charts.drawing import (
    LETTER,
    MUTED,
    SMALL,
    Drawing,
    LeftOut,
    canvas,
    not_measured,
    wrapped,
)
from axiom_bench.report.options import Options, number_of, options_of
from axiom_bench.statistics.bootstrap import Floats
from axiom_bench.statistics.chart_data import BoxGroup, counts_in, groups_of
from axiom_bench.statistics.labels import Value, number
from axiom_bench.statistics.run_folder import METHOD_FREE, RunFolder

TITLE = "Method-free errors by network"


def chart(run: RunFolder) -> Chart | None:
    """A panel for each metric of `config.report.figures.over_models`; None where the run has none of them."""
    found = {name: _by_network(run, name) for name in options_of(run).figures.over_models}
    found = {name: groups for name, groups in found.items() if groups}
    if not found:
        return None
    parts = [_panel(run, name, groups) for name, groups in found.items()]
    counts = counts_in(group for groups in found.values() for group in groups.values())
    caption = f"{parts[0][1].caption} {counts} a box."
    title = TITLE + (" (Fig. 2 of the paper)" if tuple(found) == Options.of({}).figures.over_models else "")
    return Chart("by-network", title, "", [Choice(title, caption, [panel for panel, _ in parts])], boxes.specs())


def _by_network(run: RunFolder, name: str) -> dict[str, BoxGroup]:
    groups = groups_of(run, name, (METHOD_FREE,))
    return {run.label(setting): own[METHOD_FREE] for setting, own in groups.items()}


def _panel(run: RunFolder, name: str, groups: dict[str, BoxGroup]) -> tuple[Panel, boxes.Shown]:
    value = run.metadata.value(name)
    shown = boxes.Shown.of(value, groups.values(), boxes.all_fit([groups.values()]))
    description = f"Box-plots of {value.title} by network."
    return boxes.panel(value.title, description, groups, "title", run.records.keys, shown), shown


BOX = 0.9  # inches of the width for a box, where there are few
AXIS = 0.6  # for the axis and its label
UPRIGHT = 0.55  # for a box, from which on its label stands upright


def draw(run: RunFolder) -> Iterator[Drawing | LeftOut]:
    """One figure for each metric of `config.report.figures.over_models`."""
    for name in options_of(run).figures.over_models:
        value = run.metadata.value(name)
        title, number = f"{value.title} over models", number_of(run, name)
        if groups := _by_network(run, name):
            yield _drawing(run, name, title, groups, number)
        else:
            yield LeftOut(title, not_measured(run, name), number)


def _drawing(run: RunFolder, name: str, title: str, groups: dict[str, BoxGroup], number: str) -> Drawing:
    values = {label: group.values for label, group in groups.items()}
    fitted = boxes.fit(list(values.values()))
    counts = ", ".join(f"{label} {counts_in([group])}" for label, group in groups.items())
    notes = " ".join(filter(None, (fitted.note, fewer_points(values.values()))))
    shown = f"{title}, one value for each image and explained class; above each box the mean."
    caption = f"{shown} {counts}. {notes}".strip()
    plot = partial(_plot, run.metadata.value(name), values, fitted)
    return Drawing(f"over_models_{name}", title, caption, plot, number)


def _plot(value: Value, values: Mapping[str, Floats], fitted: boxes.Axis, width: float) -> Figure:
    order = list(values)
    width = min(width, max(2.4, AXIS + BOX * len(order)))
    room = (width - AXIS) / len(order)
    figure = canvas(width, 2.6 if room >= UPRIGHT else 3.0)
    axes = figure.subplots()
    draw_boxes(axes, [fitted.drawn(group) for group in values.values()], [MUTED] * len(order), upright=True)
    boxes.apply_axis(fitted, axes)
    axes.set(xlabel="", ylabel=axis_label(value))
    for place, label in enumerate(order):
        above = axes.text(place, 1.015, f"mean\n{number(values[label].mean())}", ha="center", va="bottom", size=SMALL)
        above.set_transform(axes.get_xaxis_transform())
    if room >= UPRIGHT:
        axes.set_xticks(range(len(order)), [wrapped(label, int(room / LETTER) - 2) for label in order])
    else:
        axes.set_xticks(range(len(order)), order, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_xlim(-0.6, len(order) - 0.4)
    return figure
