"""Every metric as box-plots by method, a panel for each setting."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import pandas as pd
from matplotlib.figure import Figure

from axiom_bench.columns import OK
from axiom_bench.report.figures import axis
from axiom_bench.report.figures.boxes import axis_label, boxes, fewer_points
from axiom_bench.report.figures.captions import counts_by, not_measured
from axiom_bench.report.figures.drawing import LETTER, Drawing, LeftOut, across, canvas, panels, set_title, wrapped
from axiom_bench.report.method_styles import method_styles
from axiom_bench.report.run_folder import METHOD_FREE, RunFolder, Setting, Value, rows_at

KEYS = ["model", "layer", "data", "method"]
PREFIX = "by_method_"  # of the files' names
NAME = 16  # letters of a method's title in one line
PANEL = 1.9  # inches: the width of a panel
TITLES, LINE, GAP = 0.45, 0.118, 0.05  # inches of height: of title and axis, of a line of text, between two boxes


def draw(run: RunFolder) -> Iterator[Drawing | LeftOut]:
    """One figure for each metric that measures methods. The rows of one are read when it is drawn."""
    defined = run.records.measured(METHOD_FREE, with_value=True)
    for name in run.records.measured(METHOD_FREE):
        value = run.value(name)
        if name in defined:
            boxes = _Boxes(run, value)
            yield Drawing(f"{PREFIX}{name}", f"{value.title} by method", boxes.caption, boxes.plot)
        else:
            yield LeftOut(f"{value.title} by method", not_measured(run, name))


@dataclass(frozen=True)
class _Boxes:
    run: RunFolder
    value: Value

    @cached_property
    def rows(self) -> pd.DataFrame:
        """Of single images and methods."""
        rows = self.run.records.rows([self.value.name])
        return rows[rows["method"] != METHOD_FREE]

    @cached_property
    def defined(self) -> pd.DataFrame:
        """Those with a value."""
        return self.rows[self.rows["status"] == OK]

    @cached_property
    def fitted(self) -> axis.Axis:
        """Where the values lie."""
        return axis.fit(self.defined["value"], [self.defined[name] for name in KEYS])

    @cached_property
    def methods(self) -> list[str]:
        """Those that have a value."""
        return list(self.defined["method"].cat.remove_unused_categories().cat.categories)

    def caption(self) -> str:
        """What is shown, with n."""
        return " ".join(filter(None, (*_caption(self), self.fitted.note, fewer_points(self.defined, KEYS))))

    def plot(self, width: float) -> Figure:
        """The figure."""
        settings = [setting for setting in self.run.settings if len(rows_at(self.defined, setting))]
        return _plot(self.run, self.value, self.defined, settings, self.methods, self.fitted, width)


def _plot(
    run: RunFolder,
    value: Value,
    defined: pd.DataFrame,
    settings: Sequence[Setting],
    methods: list[str],
    fitted: axis.Axis,
    width: float,
) -> Figure:
    styles = method_styles(run)
    names = [wrapped(styles[method].title, NAME) for method in methods]
    label = LETTER * max(len(line) for name in names for line in name.split("\n")) + 0.1
    lines = [1 + name.count("\n") for name in names]
    row = TITLES + len(names) * (GAP + LINE * max((sum(pair) / 2 for pair in pairwise(lines)), default=lines[0]))
    beside = across(len(settings), width - label, PANEL, row)
    figure = canvas(width, row * -(-len(settings) // beside) + 0.25)
    for axes, setting in zip(panels(figure, len(settings), beside, sharey=True, sharex=True), settings, strict=True):
        own = dict(iter(rows_at(defined, setting).groupby("method", observed=False)["value"]))
        values = [fitted.drawn(own[method]) for method in methods]
        boxes(axes, values, [styles[method].colour for method in methods], upright=False, means=True)
        axis.apply(fitted, axes, "x")
        axes.set_ylim(len(methods) - 0.4, -0.6)
        axes.set_yticks(range(len(methods)), names)
        set_title(axes, run.label(setting), (width - label) / beside)
    figure.supxlabel(axis_label(value))
    return figure


def _caption(boxes: _Boxes) -> Iterator[str]:
    value, rows, run = boxes.value, boxes.rows, boxes.run
    direction = f", {value.better} is better" if value.has_direction else ""
    yield f"{value.title} by method{direction}; {counts_by(boxes.defined, KEYS)} in a box; diamonds are means."
    measured = rows["method"].cat.remove_unused_categories().cat.categories
    missing = [method for method in measured if method not in boxes.methods]
    if missing:
        statuses = sorted(set(rows.loc[rows["method"].isin(missing), "status"]))
        yield f"Without a value: {', '.join(map(run.method_title, missing))} ({', '.join(statuses)})."
