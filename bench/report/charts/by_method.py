"""Every metric as box-plots by method, a panel for each network."""

from __future__ import annotations

from collections.abc import Mapping

from axiom_bench.report.charts import boxes
from axiom_bench.report.charts.chart import Chart, Choice, metrics_in_order
from axiom_bench.statistics.groups import BoxGroup, counts_in, groups_of
from axiom_bench.statistics.metadata import Setting
from axiom_bench.statistics.run_folder import METHOD_FREE, RunFolder

Groups = Mapping[Setting, Mapping[str, BoxGroup]]


def chart(run: RunFolder) -> Chart | None:
    """None where no method has a value of an image."""
    names = metrics_in_order(run, run.records.measured(METHOD_FREE, with_value=True))
    every_value = boxes.all_fit(_all_of(groups_of(run, name, run.methods)) for name in names)
    choices = [_choice(run, name, groups_of(run, name, run.methods), every_value) for name in names]
    return Chart("by-method", "Each metric by method", "Metric", choices, boxes.specs()) if choices else None


def _choice(run: RunFolder, name: str, groups: Groups, every_value: bool) -> Choice:
    value = run.metadata.value(name)
    shown = boxes.Shown.of(value, _all_of(groups), every_value)
    panels = []
    for setting, own in groups.items():
        label = run.label(setting)
        description = f"Box-plots of {value.title} by method, {label}."
        panels.append(boxes.panel(label, description, own, "method", run.records.keys, shown))
    return Choice(value.title, f"{shown.caption} {counts_in(_all_of(groups))} a box.", panels)


def _all_of(groups: Groups) -> list[BoxGroup]:
    return [group for own in groups.values() for group in own.values()]
