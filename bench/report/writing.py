"""Write all files of a report: tables, figures, and the page with a section for each part."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import pandas as pd
from PIL import Image
from threadpoolctl import threadpool_limits

from axiom_bench.records import files
from axiom_bench.report import gallery, scorecard, summary
from axiom_bench.report.card import trust_by_metric
from axiom_bench.report.charts import by_method, lines, matrices, pictures, points, race, ranking
from axiom_bench.report.charts.drawing import DPI, Chart, Figure, LeftOut, written
from axiom_bench.report.options import options_of
from axiom_bench.report.page import tables as page_tables
from axiom_bench.report.page.html import Section, assemble, render_part
from axiom_bench.report.page.this_run import combined_runs, header, this_run
from axiom_bench.report.references import table_keys, to_bibtex
from axiom_bench.report.tables.comparisons import (
    pair_frame,
    pair_tables,
    paired_tables,
    place_frame,
    place_tables,
)
from axiom_bench.report.tables.latex import for_paper, to_latex
from axiom_bench.report.tables.summaries import (
    correctness_tables,
    headline_tables,
    latex_overview_table,
    long_frame,
    metric_tables,
    overview_table,
    runtime_table,
    status_table,
    training_tables,
    wide_frame,
)
from axiom_bench.report.tables.table import Table, to_csv, to_markdown
from axiom_bench.statistics.labels import UNSTABLE
from axiom_bench.statistics.run_folder import RunFolder


@dataclass(frozen=True)
class SavedFigure:
    """A figure whose files are written."""

    name: str
    title: str
    caption: str
    png: Path  # the PNG file
    chart: Chart | None = None  # the chart that shows `svg`; `None` if the page shows the PNG
    label: str = ""  # by which a reader chooses this figure in its chart
    frame: pd.DataFrame = field(default_factory=pd.DataFrame)  # the values, shown as a table
    svg: str = ""


Figures = list[SavedFigure | LeftOut]
Tell = Callable[[str], None]


def write_report(run: RunFolder, tell: Tell = lambda step: None) -> None:
    """Write tables/, figures/ and report.html. If the gallery has many images, also write
    report/index.html and its pictures.

    Args:
        run: The run, as read from its folder.
        tell: Called with the name of the next step.

    Raises:
        BenchError: If a file of the run can't be read or the folder can't be written.
    """
    # The matrix products are small: starting a second thread takes longer than it saves.
    with threadpool_limits(1, "blas"):
        tell("comparisons")
        run.precompute()
        tell("tables")
        tables = write_tables(run, run.path / "tables")
        figures = save_figures(run, tell)
        tell("page")
        text = page(run, tables, figures, gallery.section(run))
        files.write(run.path / summary.PAGE, text.encode())
        section = gallery.folder_section(run)
        if section:
            gallery_page = assemble(header(run), [section])
            files.write(run.path / gallery.FOLDER / "index.html", gallery_page.encode())


def all_tables(run: RunFolder) -> list[Table]:
    """Return the tables of the page, in its order. Each has a sentence for every method and metric
    that is marked as unstable in its run.
    """
    tables = [
        overview_table(run),
        *training_tables(run),
        *place_tables(run),
        *pair_tables(run),
        *paired_tables(run),
        *metric_tables(run),
        *correctness_tables(run),
        status_table(run),
        runtime_table(run),
    ]
    return [_with_marks(run, table) for table in tables]


def _with_marks(run: RunFolder, table: Table) -> Table:
    """Add a note to a table for each unstable method and metric."""
    unstable = run.metadata.unstable()
    marks = tuple(f"{UNSTABLE} {name}: {reason}." for name, reason in unstable.items())
    return replace(table, notes=(*table.notes, *marks))


def write_tables(run: RunFolder, folder: Path) -> list[Table]:
    """Write all tables of a run, and return the tables of the page.

    Every table is written as Markdown and LaTeX, and so is a short table for each headline metric.
    The LaTeX overview has fewer columns, and references.bib has the works that the run cites. For
    programs there are summary.csv (long), overview.csv (wide), pairs.csv, places.csv and
    runtime.csv.

    Args:
        run: The run, as read from its folder.
        folder: The folder for the files.

    Returns:
        The tables of the page, in its order.

    Raises:
        BenchError: If the folder can't be written.
    """
    tables = all_tables(run)
    short_tables = [_with_marks(run, table) for table in headline_tables(run)]
    latex_overview = latex_overview_table(run)
    for table in (*tables, *short_tables):
        name = files.safe_name(table.name)  # it may hold a metric's name
        files.write(folder / f"{name}.md", to_markdown(table).encode())
        latex_table = latex_overview if table.name == latex_overview.name else table
        latex = to_latex(for_paper(run, latex_table, table_keys(run, latex_table)))
        files.write(folder / f"{name}.tex", latex.encode())
    files.write(folder / "references.bib", to_bibtex(run).encode())
    frames = {
        "summary": long_frame(run),
        "overview": wide_frame(run),
        "runtime": run.runtime,
        "pairs": pair_frame(run),
        "places": place_frame(run),
    }
    for name, frame in frames.items():
        files.write(folder / f"{name}.csv", to_csv(frame).encode())
    return tables


def page(
    run: RunFolder,
    tables: Sequence[Table],
    figures: Iterable[SavedFigure | LeftOut],
    images: Section,
) -> str:
    """Return the whole page as HTML. The same run gives the same text.

    Args:
        run: The run, as read from its folder.
        tables: The tables of the page, the overview first.
        figures: The figures, each saved or left out.
        images: The gallery's section.
    """
    figures = list(figures)
    judged = scorecard.judge_in_report(run)
    trust = {setting: trust_by_metric(run, rows) for setting, rows in judged.items()}
    methods, metrics = page_tables.definitions_of(run)
    control_titles = [run.metadata.method_title(name) for name in run.metadata.controls]
    terms = page_tables.metric_links(methods, metrics, control_titles)
    sections = [page_tables.findings_section(run, terms, trust)]
    if not run.records.empty:  # a run whose jobs all failed has only their messages to show
        optional_sections = (charts_section(figures), scorecard.section(run, judged, terms))
        sections = [
            page_tables.overview(run, tables[0], terms, gallery.maps_row(run)),
            *sections,
            *filter(None, optional_sections),
            images,
            figures_section(run, figures, IN_GALLERY if images.data else ()),
            page_tables.section(tables[1:], terms),
            page_tables.definitions_section(methods, metrics),
        ]
    sections.append(this_run(run))
    if run.manifest.is_combined:
        sections.append(combined_runs(run))
    return assemble(header(run, trust), sections)


def charts_section(figures: Iterable[SavedFigure | LeftOut]) -> Section | None:
    """Return the figures that the page shows as SVG, or `None` if there are none."""
    figures_by_chart: dict[Chart, list[SavedFigure]] = {}
    for figure in figures:
        if isinstance(figure, SavedFigure) and figure.chart:
            figures_by_chart.setdefault(figure.chart, []).append(figure)
    if not figures_by_chart:
        return None
    body = render_part("charts", charts=figures_by_chart, written=written)
    return Section("charts", "Charts", body, ("charts.css",), ("panels.js", "charts.js"))


FIGURES = (
    # Where in the network do the axioms hold? Only a run with several layers asks this.
    lines.draw_by_depth,
    # Which method is best, by which metric, and at which cost?
    ranking.draw,
    ranking.draw_mean_ranks,
    by_method.draw,
    points.draw_plane,
    points.draw_costs,
    lines.draw_curves,
    # How do the maps look?
    pictures.draw_grid,
    pictures.draw_pair,
    pictures.draw_perturbed,
    matrices.draw_confusion,
    # What follows from the network, and what from the metric?
    by_method.draw_networks,
    matrices.draw_agreement,
)
FOLDER = "figures"  # in the run folder


def save_figures(run: RunFolder, tell: Tell = lambda step: None) -> Figures:
    """Write figures/*.png and the other formats of `config.report.figures`.

    Args:
        run: The run, as read from its folder.
        tell: Called with the name of the next figure.

    Returns:
        The figures that were saved or left out, in order.

    Raises:
        BenchError: If a file of the run can't be read or the folder can't be written.
    """
    figures: Figures = []
    for figure in all_figures(run):
        if isinstance(figure, LeftOut):
            figures.append(figure)
        else:
            tell(f"figure: {figure.file_name}")
            formats = options_of(run).figures.formats
            figures.append(save_figure(run, figure, run.path / FOLDER, formats))
    return figures


def save_figure(
    run: RunFolder, figure: Figure, folder: Path, formats: Sequence[str]
) -> SavedFigure:
    """Write the files of one figure."""
    svg = figure.save(folder, formats)
    return SavedFigure(
        figure.file_name,
        figure.title,
        figure.caption,
        folder / f"{figure.file_name}.png",
        figure.chart,
        figure.label,
        figure.frame,
        svg,
    )


def all_figures(run: RunFolder) -> Iterator[Figure | LeftOut]:
    """Yield the figures in the order of the report. A figure is made only when it is asked for."""
    if run.choice is not None:
        yield race.draw(run, run.choice)
    for draw in FIGURES:
        yield from draw(run)


PHOTOGRAPH_BYTES = 2**19  # a PNG with more bytes than this is a photograph, not a plot
CSS_DPI = 132  # figures are larger than in print (96), so that their text has at least 11 pixels
# The names of figures that the gallery shows with all their values begin so.
IN_GALLERY = ("maps_",)


def figures_section(
    run: RunFolder, figures: Iterable[SavedFigure | LeftOut], other_names: Sequence[str]
) -> Section:
    """Return the section of all figures.

    Args:
        run: The run, as read from its folder.
        figures: The figures, each saved or left out.
        other_names: Beginnings of the names of figures that another section shows.
    """
    figures = list(figures)
    labels = ("over all", *map(run.label, run.settings), *run.manifest.models)
    page_figures = [
        _page_figure(figure, labels, other_names)
        for figure in figures
        if isinstance(figure, SavedFigure)
    ]
    families = []
    for title, group in groupby(page_figures, itemgetter("title")):
        families.append((title, list(group)))
    body = render_part(
        "figures",
        shown=[(title, group) for title, group in families if group[0]["source"]],
        families=families,
        left_out=[figure for figure in figures if isinstance(figure, LeftOut)],
    )
    return Section("figures", "Figures", body, ("figures.css",), ("panels.js",))


def _page_figure(
    figure: SavedFigure, labels: Iterable[str], other_names: Sequence[str]
) -> dict[str, object]:
    """Return what the page shows of a figure: the title of its family, its setting's label, and its
    files by kind.

    "source" is a data URI; it is empty if another section shows the figure. "width" is in CSS
    pixels.
    """
    label = next((label for label in labels if figure.title.endswith(f", {label}")), "")
    title = figure.title.removesuffix(f", {label}") if label else figure.title
    # charts are in the page as SVG, and the gallery shows the maps of these figures
    if figure.chart or figure.name.startswith(tuple(other_names)):
        source = ""
        width = 0
    else:
        source, width = embedded(figure)
    paths = sorted(figure.png.parent.glob(f"{figure.name}.*"))
    files = {path.suffix[1:].upper(): f"{FOLDER}/{path.name}" for path in paths}
    return {
        **vars(figure),
        "title": title,
        "label": label,
        "source": source,
        "width": width,
        "files": files,
    }


def embedded(figure: SavedFigure) -> tuple[str, int]:
    """Return the data URI of a saved figure, and its width in CSS pixels. Photographs are WebP in
    the page, which takes a tenth of the bytes; the PNG file is exact.
    """
    kind = "png"
    data = figure.png.read_bytes()
    image = Image.open(io.BytesIO(data))
    if len(data) > PHOTOGRAPH_BYTES:
        kind = "webp"
        buffer = io.BytesIO()
        # The default method, 4, takes twice as long.
        image.convert("RGB").save(buffer, "WEBP", quality=90, method=2)
        data = buffer.getvalue()
    width = round(CSS_DPI * image.width / DPI)
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}", width
