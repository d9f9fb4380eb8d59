"""Box-plots: every metric by method, and the errors that no method decides by network (Fig. 2 of the paper)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import pairwise

import numpy as np
from matplotlib.figure import Figure

from axiom_bench.report.charts import boxes, drawing, vega
from axiom_bench.report.charts.boxes import BoxGroup, counts_in, draw_boxes, fewer_points, groups_of
from axiom_bench.report.charts.drawing import LETTER, SMALL, Drawing, LeftOut
from axiom_bench.report.charts.vega import Chart, Choice, method_styles, metrics_in_order
from axiom_bench.report.options import Options, number_of, options_of
from axiom_bench.statistics.bootstrap import Floats
from axiom_bench.statistics.labels import Setting, Value, number
from axiom_bench.statistics.run_folder import METHOD_FREE, RunFolder

Groups = Mapping[Setting, Mapping[str, BoxGroup]]


def chart(run: RunFolder) -> Chart | None:
    """None where no method has a value of an image."""
    names = metrics_in_order(run, run.records.measured(METHOD_FREE, with_value=True))
    every_value = boxes.all_fit(_all_of(groups_of(run, name, run.methods)) for name in names)
    choices = []
    for name in names:
        value, groups = run.metadata.value(name), groups_of(run, name, run.methods)
        shown = boxes.Shown.of(value, _all_of(groups), every_value)
        panels = []
        for setting, of_setting in groups.items():
            label = run.label(setting)
            description = f"Box-plots of {value.title} by method, {label}."
            panels.append(boxes.panel(label, description, of_setting, "method", run, shown))
        choices.append(Choice(value.title, f"{shown.caption} {counts_in(_all_of(groups))} a box.", panels))
    return Chart("by-method", "Each metric by method", "Metric", choices, boxes.specs()) if choices else None


def _all_of(groups: Groups) -> list[BoxGroup]:
    return [group for of_setting in groups.values() for group in of_setting.values()]


PREFIX = "by_method_"  # of the files' names
NAME = 16  # letters of a method's title in one line
PANEL = 1.9  # inches: the width of a panel
TITLES, LINE, GAP = 0.45, 0.118, 0.05  # inches of height: of title and axis, of a line of text, between two boxes


def draw(run: RunFolder) -> Iterator[Drawing | LeftOut]:
    """One figure for each metric that measures methods. The rows of one are read when it is drawn."""
    defined = run.records.measured(METHOD_FREE, with_value=True)
    for name in run.records.measured(METHOD_FREE):
        value = run.metadata.value(name)
        title = f"{value.title} by method"
        if name in defined:
            shown = _Boxes(run, value)
            yield Drawing(f"{PREFIX}{name}", title, shown.caption, shown.plot)
        else:
            yield LeftOut(title, drawing.not_measured(run, name))


@dataclass(frozen=True)
class _Boxes:
    run: RunFolder
    value: Value

    @cached_property
    def groups(self) -> dict[Setting, dict[str, BoxGroup]]:
        """Of each setting with values the methods that have any."""
        return groups_of(self.run, self.value.name, self.run.methods)

    @cached_property
    def fitted(self) -> boxes.Axis:
        """Where the values lie."""
        return boxes.fit([group.values for group in _all_of(self.groups)])

    @cached_property
    def methods(self) -> list[str]:
        """Those that have a value."""
        return [method for method in self.run.methods if any(method in groups for groups in self.groups.values())]

    def caption(self) -> str:
        """What is shown, with n."""
        value, run, groups = self.value, self.run, _all_of(self.groups)
        direction = f", {value.better} is better" if value.has_direction else ""
        parts = [f"{value.title} by method{direction}; {counts_in(groups)} in a box; diamonds are means."]
        block = run.records.blocks[value.name]
        block = block.where(~run.records.of_whole_set[block.keys])
        measured = {run.records.methods[code] for code in np.unique(block.methods)}
        missing = [method for method in run.methods if method in measured and method not in self.methods]
        if missing:
            is_missing = np.isin(run.records.methods, missing)[block.methods]
            statuses = sorted(run.records.statuses[code] for code in np.unique(block.statuses[is_missing]))
            titles = ", ".join(map(run.metadata.method_title, missing))
            parts.append(f"Without a value: {titles} ({', '.join(statuses)}).")
        return " ".join(filter(None, (*parts, self.fitted.note, fewer_points(group.values for group in groups))))

    def plot(self, width: float) -> Figure:
        """The figure."""
        run, settings, methods, fitted = self.run, list(self.groups), self.methods, self.fitted
        styles = method_styles(run)
        names = [drawing.wrapped(styles[method].title, NAME) for method in methods]
        label = LETTER * max(len(line) for name in names for line in name.split("\n")) + 0.1
        lines = [1 + name.count("\n") for name in names]
        row = TITLES + len(names) * (GAP + LINE * max((sum(pair) / 2 for pair in pairwise(lines)), default=lines[0]))
        per_row = drawing.across(len(settings), width - label, PANEL, row)
        figure = drawing.canvas(width, row * -(-len(settings) // per_row) + 0.25)
        drawn = drawing.panels(figure, len(settings), per_row, sharey=True, sharex=True)
        for axes, setting in zip(drawn, settings, strict=True):
            shown = self.groups[setting]
            values = [fitted.drawn(shown[method].values if method in shown else np.zeros(0)) for method in methods]
            draw_boxes(axes, values, [styles[method].colour for method in methods], upright=False, means=True)
            # On the frame: else each drawing measures all tick labels, of which none can be in the title's way.
            drawing.set_title(axes, run.label(setting), (width - label) / per_row, y=1.0)
        boxes.apply_axis(fitted, drawn[0], "x")  # which all panels share
        drawn[0].set_ylim(len(methods) - 0.4, -0.6)
        drawn[0].set_yticks(range(len(methods)), names)
        figure.supxlabel(vega.axis_label(self.value))
        return figure


NETWORKS = "Method-free errors by network"


def network_chart(run: RunFolder) -> Chart | None:
    """A panel for each metric of `config.report.figures.over_models`; None where the run has none of them."""
    measured = {name: _by_network(run, name) for name in options_of(run).figures.over_models}
    measured = {name: groups for name, groups in measured.items() if groups}
    if not measured:
        return None
    panels, captions = [], []
    for name, groups in measured.items():
        value = run.metadata.value(name)
        shown = boxes.Shown.of(value, groups.values(), boxes.all_fit([groups.values()]))
        description = f"Box-plots of {value.title} by network."
        panels.append(boxes.panel(value.title, description, groups, "title", run, shown))
        captions.append(shown.caption)
    counts = counts_in(group for groups in measured.values() for group in groups.values())
    title = NETWORKS + (" (Fig. 2 of the paper)" if tuple(measured) == Options.of({}).figures.over_models else "")
    choice = Choice(title, f"{captions[0]} {counts} a box.", panels)
    return Chart("by-network", title, "", [choice], boxes.specs())


def _by_network(run: RunFolder, name: str) -> dict[str, BoxGroup]:
    groups = groups_of(run, name, (METHOD_FREE,))
    return {run.label(setting): of_setting[METHOD_FREE] for setting, of_setting in groups.items()}


BOX = 0.9  # inches of the width for a box, where there are few
AXIS_ROOM = 0.6  # for the axis and its label
UPRIGHT = 0.55  # for a box, from which on its label stands upright


def draw_networks(run: RunFolder) -> Iterator[Drawing | LeftOut]:
    """One figure for each metric of `config.report.figures.over_models`."""
    for name in options_of(run).figures.over_models:
        value, groups, figure = run.metadata.value(name), _by_network(run, name), number_of(run, name)
        title = f"{value.title} over models"
        if not groups:
            yield LeftOut(title, drawing.not_measured(run, name), figure)
            continue
        values = {label: group.values for label, group in groups.items()}
        fitted = boxes.fit(list(values.values()))
        counts = ", ".join(f"{label} {counts_in([group])}" for label, group in groups.items())
        notes = " ".join(filter(None, (fitted.note, fewer_points(values.values()))))
        shown = f"{title}, one value for each image and explained class; above each box the mean."
        plot = partial(_plot_networks, value, values, fitted)
        yield Drawing(f"over_models_{name}", title, f"{shown} {counts}. {notes}".strip(), plot, figure)


def _plot_networks(value: Value, values: Mapping[str, Floats], fitted: boxes.Axis, width: float) -> Figure:
    order = list(values)
    width = min(width, max(2.4, AXIS_ROOM + BOX * len(order)))
    room = (width - AXIS_ROOM) / len(order)
    figure = drawing.canvas(width, 2.6 if room >= UPRIGHT else 3.0)
    axes = figure.subplots()
    draw_boxes(axes, [fitted.drawn(group) for group in values.values()], [drawing.MUTED] * len(order), upright=True)
    boxes.apply_axis(fitted, axes)
    axes.set(xlabel="", ylabel=vega.axis_label(value))
    for place, label in enumerate(order):
        above = axes.text(place, 1.015, f"mean\n{number(values[label].mean())}", ha="center", va="bottom", size=SMALL)
        above.set_transform(axes.get_xaxis_transform())
    if room >= UPRIGHT:
        axes.set_xticks(range(len(order)), [drawing.wrapped(label, int(room / LETTER) - 2) for label in order])
    else:
        axes.set_xticks(range(len(order)), order, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_xlim(-0.6, len(order) - 0.4)
    return figure
