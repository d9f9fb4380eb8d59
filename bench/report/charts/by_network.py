"""The errors that no method decides, as box-plots by network: with the default metrics Fig. 2 of the paper."""

from __future__ import annotations

from axiom_bench.report.charts import boxes
from axiom_bench.report.charts.chart import Chart, Choice, Panel
from axiom_bench.report.options import Options, options_of
from axiom_bench.statistics.groups import BoxGroup, counts_in, groups_of
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
