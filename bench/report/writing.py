"""Write all files of a report: tables, figures, and the page with one section of each part, in its order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from axiom_bench.records import files, reading
from axiom_bench.report import stamp
from axiom_bench.report.charts import section as charts
from axiom_bench.report.charts.drawing import LeftOut
from axiom_bench.report.charts.saving import SavedFigure, save_figures
from axiom_bench.report.gallery import section as gallery
from axiom_bench.report.page import definitions, findings
from axiom_bench.report.page import figures as page_figures
from axiom_bench.report.page import tables as page_tables
from axiom_bench.report.page.html import Section, assemble
from axiom_bench.report.page.this_run import combined_runs, header, this_run
from axiom_bench.report.processes import Process
from axiom_bench.report.scorecard import writing as judging
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
    methods, metrics = definitions.definitions_of(run)
    terms = definitions.terms(methods, metrics)
    yield findings.section(run, terms)
    if not run.records.empty:
        yield page_tables.overview(tables[0], terms)
        interactive = charts.section(run)
        if interactive:
            yield interactive
        judged = judging.section(run, terms)
        if judged:
            yield judged
        yield gallery
        elsewhere = (*(page_figures.CHARTED if interactive else ()), *(page_figures.IN_GALLERY if gallery.data else ()))
        yield page_figures.section(run, figures, elsewhere)
        yield page_tables.section(tables[1:], terms)
        yield definitions.section(methods, metrics)
    yield this_run(run)
    if reading.is_combined(run.manifest):
        yield combined_runs(run)
