"""Write all files of a report: tables, figures, and the page with one section of each part, in its order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from axiom_bench.records import files, reading
from axiom_bench.report import gallery, stamp
from axiom_bench.report import scorecard as judging
from axiom_bench.report.charts import by_depth, by_method, curves, matrices, scatter
from axiom_bench.report.charts import figures as page_figures
from axiom_bench.report.charts.drawing import LeftOut
from axiom_bench.report.charts.figures import SavedFigure, save_figures
from axiom_bench.report.charts.vega import Chart, MethodStyle, Panel, method_styles
from axiom_bench.report.page import findings
from axiom_bench.report.page import tables as page_tables
from axiom_bench.report.page.html import Section, assemble, part
from axiom_bench.report.page.this_run import combined_runs, header, this_run
from axiom_bench.report.processes import Process
from axiom_bench.report.tables import write_tables
from axiom_bench.report.tables.table import Table
from axiom_bench.statistics.run_folder import RunFolder


def write_report(
    run: RunFolder, processes: Sequence[Process] = (), tell: Callable[[str], None] = lambda step: None
) -> None:
    """Write tables/, figures/ and report.html; of a gallery with many images also report/index.html and its pictures.

    processes: draw a share of the figures each. tell: is told what is made next. Raises BenchError where a file of the
    run can't be read or the folder can't be written.
    """
    tell("comparisons")
    run.compare_all()
    tell("tables")
    tables = write_tables(run, run.path / "tables")
    figures = save_figures(run, processes, tell)
    tell("page")
    files.write(run.path / stamp.PAGE, page(run, tables, figures, gallery.section(run)).encode())
    if section := gallery.folder_section(run):
        files.write(run.path / gallery.FOLDER / "index.html", assemble(header(run), [section]).encode())


def page(run: RunFolder, tables: Sequence[Table], figures: Iterable[SavedFigure | LeftOut], gallery: Section) -> str:
    """The whole page. gallery: its section. The same run gives the same text."""
    return assemble(header(run), list(_sections(run, tables, figures, gallery)))


def _sections(
    run: RunFolder, tables: Sequence[Table], figures: Iterable[SavedFigure | LeftOut], gallery: Section
) -> Iterator[Section]:
    methods, metrics = page_tables.definitions_of(run)
    terms = page_tables.terms(methods, metrics)
    yield findings.section(run, terms)
    if not run.records.empty:
        yield page_tables.overview(tables[0], terms)
        if interactive := charts_section(run):
            yield interactive
        if judged := judging.section(run, terms):
            yield judged
        yield gallery
        elsewhere = (*(page_figures.CHARTED if interactive else ()), *(page_figures.IN_GALLERY if gallery.data else ()))
        yield page_figures.section(run, figures, elsewhere)
        yield page_tables.section(tables[1:], terms)
        yield page_tables.definitions_section(methods, metrics)
    yield this_run(run)
    if reading.is_combined(run.manifest):
        yield combined_runs(run)


CHARTS = (
    by_depth.chart, by_method.network_chart, scatter.chart, by_method.chart, curves.chart, scatter.costs_chart,
    matrices.agreement_chart,
)  # fmt: skip


def charts_section(run: RunFolder) -> Section | None:
    """All charts that the run has values for; None where it has none."""
    charts = [chart for draw in CHARTS if (chart := draw(run)) is not None]
    if not charts:
        return None
    styles = method_styles(run)
    shown = {name for panel in _panels(charts) for table in panel.tables.values() for name in table.get("method", ())}
    methods = [(place, name, style) for place, (name, style) in enumerate(styles.items()) if name in shown]
    body = part("charts", charts=charts, methods=methods)
    data = {"chart-data": _data(charts, styles)}
    return Section("charts", "Charts", body, ("charts.css",), ("vega_bundle.js", "charts.js"), data)


def _data(charts: Sequence[Chart], styles: Mapping[str, MethodStyle]) -> dict[str, Any]:
    """What charts.js reads. Methods and images stand in the tables by their place in one list of each."""
    methods = {name: place for place, name in enumerate(styles)}
    images: dict[str, int] = {}
    drawn = {chart.id: [[_panel(panel, methods, images) for panel in choice.panels] for choice in chart.choices]
             for chart in charts}  # fmt: skip
    used = {panel.spec for panel in _panels(charts)}
    specs = {name: build() for chart in charts for name, build in chart.specs.items() if name in used}
    listed = [{"name": name, **vars(style)} for name, style in styles.items()]
    return {"methods": listed, "specs": specs, "charts": drawn, "images": list(images)}


def _panels(charts: Iterable[Chart]) -> Iterator[Panel]:
    return (panel for chart in charts for choice in chart.choices for panel in choice.panels)


def _panel(panel: Panel, methods: Mapping[str, int], images: dict[str, int]) -> dict[str, Any]:
    tables: dict[str, dict[str, Any]] = {}
    for title, table in panel.tables.items():
        tables[title] = dict(table)
        if "method" in table:
            tables[title]["method"] = [methods[entry] for entry in table["method"]]
        if "image" in table:
            tables[title]["image"] = [images.setdefault(entry, len(images)) for entry in table["image"]]
    return {**vars(panel), "tables": tables}
