"""The section of the page that holds the charts, with the one switch of methods that acts on all of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from axiom_bench.report.charts import agreement, axiom_plane, by_depth, by_method, by_network, costs, curves
from axiom_bench.report.charts.chart import Chart, Columns, Panel, method_styles
from axiom_bench.report.page.html import Section, render
from axiom_bench.statistics.run_folder import RunFolder

CHARTS = (
    by_depth.chart, by_network.chart, axiom_plane.chart, by_method.chart, curves.chart, costs.chart, agreement.chart,
)  # fmt: skip
DATA = "chart-data"


def section(run: RunFolder) -> Section | None:
    """All charts that the run has values for; None where it has none."""
    charts = [chart for draw in CHARTS if (chart := draw(run)) is not None]
    if not charts:
        return None
    styles = method_styles(run)
    shown = [name for name in styles if any(name in names for names in map(_methods, charts))]
    methods = [(place, name, styles[name]) for place, name in enumerate(styles) if name in shown]
    body = render("charts.html.j2", charts=charts, methods=methods)
    return Section(
        "charts", "Charts", body, ("charts.css",), ("vega_bundle.js", "charts.js"), {DATA: _data(charts, styles)}
    )


def _methods(chart: Chart) -> set[str]:
    return {
        name
        for choice in chart.choices
        for panel in choice.panels
        for table in panel.tables.values()
        for name in table.get("method", ())
    }


def _specs(charts: list[Chart]) -> dict[str, Any]:
    """What builds the specs of all panels."""
    used = {panel.spec for chart in charts for choice in chart.choices for panel in choice.panels}
    return {name: build for chart in charts for name, build in chart.specs.items() if name in used}


def _data(charts: list[Chart], styles: dict[str, Any]) -> dict[str, Any]:
    """What charts.js reads. Methods and images stand in the tables by their place in one list of each."""
    methods = {name: place for place, name in enumerate(styles)}
    images: dict[str, int] = {}
    return {
        "methods": [{"name": name, **vars(style)} for name, style in styles.items()],
        "specs": {name: build() for name, build in _specs(charts).items()},
        "charts": {
            chart.id: [[_panel(panel, methods, images) for panel in choice.panels] for choice in chart.choices]
            for chart in charts
        },
        "images": list(images),
    }


def _panel(panel: Panel, methods: dict[str, int], images: dict[str, int]) -> dict[str, Any]:
    tables = {name: dict(_coded(table, methods, images)) for name, table in panel.tables.items()}
    return {**vars(panel), "tables": tables}


def _coded(table: Columns, methods: dict[str, int], images: dict[str, int]) -> Iterator[tuple[str, Any]]:
    for name, entries in table.items():
        if name == "method":
            yield name, [methods[entry] for entry in entries]
        elif name == "image":
            yield name, [images.setdefault(entry, len(images)) for entry in entries]
        else:
            yield name, entries
