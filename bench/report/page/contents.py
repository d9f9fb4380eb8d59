"""What the page shows, in its order: one section of each part of the report."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from axiom_bench.records import reading
from axiom_bench.report.charts import section as charts
from axiom_bench.report.figures.drawing import LeftOut
from axiom_bench.report.figures.saving import SavedFigure
from axiom_bench.report.page import combined, definitions, findings, this_run
from axiom_bench.report.page import figures as page_figures
from axiom_bench.report.page import tables as page_tables
from axiom_bench.report.page.header import header
from axiom_bench.report.page.html import assemble
from axiom_bench.report.page.section import Section
from axiom_bench.report.scorecard import writing as judging
from axiom_bench.report.tables.table import Table
from axiom_bench.statistics.run_folder import RunFolder


def page(
    run: RunFolder,
    tables: Sequence[Table],
    figures: Iterable[SavedFigure | LeftOut],
    gallery: Section,
) -> str:
    """The whole page. gallery: its section. The same run gives the same text."""
    return assemble(header(run), list(_sections(run, tables, figures, gallery)))


def gallery_page(run: RunFolder, gallery: Section) -> str:
    """A page with the gallery alone."""
    return assemble(header(run), [gallery])


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
    yield this_run.section(run)
    if reading.is_combined(run.manifest):
        yield combined.section(run)
