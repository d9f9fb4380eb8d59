"""Write all files of a report: tables, figures, and the page with a section of each part."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image
from threadpoolctl import threadpool_limits

from axiom_bench.records import files
from axiom_bench.report import gallery, scorecard, summary
from axiom_bench.report.card import in_words
from axiom_bench.report.charts import by_method, lines, matrices, pictures, points, ranking
from axiom_bench.report.charts.drawing import DPI, Chart, Figure, LeftOut, written
from axiom_bench.report.options import options_of
from axiom_bench.report.page import tables as page_tables
from axiom_bench.report.page.html import Section, assemble, part
from axiom_bench.report.page.this_run import combined_runs, header, this_run
from axiom_bench.report.tables.comparisons import (
    pair_frame,
    pair_tables,
    paired_tables,
    place_frame,
    place_tables,
)
from axiom_bench.report.tables.latex import to_latex
from axiom_bench.report.tables.summaries import (
    correctness_tables,
    headline_tables,
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
    """A figure whose files are written. png: path of the PNG. number: of the paper's figure that it
    is. chart: where the page shows `svg`, chosen by `label`, and `frame` as a table.
    """

    name: str
    title: str
    caption: str
    png: Path
    number: str = ""
    chart: Chart | None = None
    label: str = ""
    frame: pd.DataFrame = field(default_factory=pd.DataFrame)
    svg: str = ""


Figures = list[SavedFigure | LeftOut]
Tell = Callable[[str], None]


def write_report(run: RunFolder, tell: Tell = lambda step: None) -> None:
    """Write tables/, figures/ and report.html; of a gallery with many images also report/index.html
    and its pictures.

    tell: is told what is made next. Raises BenchError where a file of the run can't be read or the
    folder can't be written.
    """
    with threadpool_limits(
        1, "blas"
    ):  # products are small: a second thread costs more than it does
        tell("comparisons")
        run.compare_all()
        tell("tables")
        tables = write_tables(run, run.path / "tables")
        figures = save_figures(run, tell)
        tell("page")
        files.write(
            run.path / summary.PAGE, page(run, tables, figures, gallery.section(run)).encode()
        )
        if section := gallery.folder_section(run):
            files.write(
                run.path / gallery.FOLDER / "index.html", assemble(header(run), [section]).encode()
            )


def all_tables(run: RunFolder) -> list[Table]:
    """Those of the page, in its order, each with a sentence for every method and metric that is
    marked in its run.
    """
    tables = [
        overview_table(run), *training_tables(run), *place_tables(run), *pair_tables(run), *paired_tables(run),
        *metric_tables(run), *correctness_tables(run), status_table(run), runtime_table(run),
    ]  # fmt: skip
    return [_with_marks(run, table) for table in tables]


def _with_marks(run: RunFolder, table: Table) -> Table:
    marks = tuple(f"{UNSTABLE} {name}: {why}." for name, why in run.metadata.unstable().items())
    return replace(table, notes=(*table.notes, *marks))


def write_tables(run: RunFolder, folder: Path) -> list[Table]:
    """Write every table as Markdown and LaTeX, and a short one for each headline metric;
    summary.csv (long), overview.csv (wide), pairs.csv, places.csv and runtime.csv for programs. The
    tables of the page.

    Raises BenchError where the folder can't be written.
    """
    tables = all_tables(run)
    for table in (*tables, *(_with_marks(run, each) for each in headline_tables(run))):
        name = files.safe_name(table.name)  # it may hold a metric's name
        files.write(folder / f"{name}.md", to_markdown(table).encode())
        files.write(folder / f"{name}.tex", to_latex(table).encode())
    frames = {
        "summary": long_frame(run), "overview": wide_frame(run), "runtime": run.runtime,
        "pairs": pair_frame(run), "places": place_frame(run),
    }  # fmt: skip
    for name, frame in frames.items():
        files.write(folder / f"{name}.csv", to_csv(frame).encode())
    return tables


def page(
    run: RunFolder,
    tables: Sequence[Table],
    figures: Iterable[SavedFigure | LeftOut],
    images: Section,
) -> str:
    """The whole page. images: the gallery's section. The same run gives the same text."""
    figures, judged = list(figures), scorecard.judge_in_report(run)
    trust = {setting: in_words(run, rows) for setting, rows in judged.items()}
    methods, metrics = page_tables.definitions_of(run)
    terms = page_tables.terms(
        methods, metrics, [*map(run.metadata.method_title, run.metadata.controls)]
    )
    sections = [page_tables.findings_section(run, terms, trust)]
    if not run.records.empty:
        sections = [
            page_tables.overview(run, tables[0], terms, gallery.row(run)),
            *sections,
            *filter(None, (charts_section(figures), scorecard.section(run, judged, terms))),
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
    """Return the figures that the page shows as SVG; None if there are none."""
    drawn: dict[Chart, list[SavedFigure]] = {}
    for figure in figures:
        if isinstance(figure, SavedFigure) and figure.chart:
            drawn.setdefault(figure.chart, []).append(figure)
    if not drawn:
        return None
    body = part("charts", charts=drawn, written=written)
    return Section("charts", "Charts", body, ("charts.css",), ("panels.js", "charts.js"))


# The errors by depth where a run has several layers; then the paper's figures by number; then our
# own.
FIGURES = (
    lines.draw_by_depth, pictures.draw_pair, by_method.draw_networks, matrices.draw_confusion, pictures.draw_perturbed,
    pictures.draw_grid, ranking.draw, ranking.draw_mean_ranks, points.draw_plane, by_method.draw, lines.draw_curves,
    points.draw_costs, matrices.draw_agreement,
)  # fmt: skip
FOLDER = "figures"  # in the run folder


def save_figures(run: RunFolder, tell: Tell = lambda step: None) -> Figures:
    """Write figures/*.png and the other formats of `config.report.figures`; what was saved or left
    out, in order. Raises BenchError where a file of the run can't be read or the folder can't be
    written.
    """
    figures: Figures = []
    for figure in all_figures(run):
        if isinstance(figure, LeftOut):
            figures.append(figure)
        else:
            tell(f"figure {figure.file_name}")
            figures.append(
                save_figure(run, figure, run.path / FOLDER, options_of(run).figures.formats)
            )
    return figures


def save_figure(
    run: RunFolder, figure: Figure, folder: Path, formats: Sequence[str]
) -> SavedFigure:
    """Write the files of one figure."""
    svg = figure.save(folder, formats)
    in_page = (figure.chart, figure.label, figure.frame, svg)
    png = folder / f"{figure.file_name}.png"
    return SavedFigure(figure.file_name, figure.title, figure.caption, png, figure.number, *in_page)


def all_figures(run: RunFolder) -> Iterator[Figure | LeftOut]:
    """In the order of the report; each is made when it is asked for."""
    for draw in FIGURES:
        yield from draw(run)


PHOTOGRAPH_BYTES = 2**19  # of a PNG, more than of a plot
CSS_DPI = 125  # larger than in print (96), where their text has 7 to 8 points
IN_GALLERY = (
    "maps_",
)  # beginnings of the names of figures that the gallery shows with all their values


def figures_section(
    run: RunFolder, figures: Iterable[SavedFigure | LeftOut], elsewhere: Sequence[str]
) -> Section:
    """elsewhere: beginnings of the names of figures that another section shows."""
    figures = list(figures)
    labels = ("over all", *map(run.label, run.settings), *run.manifest.models)
    saved = [
        _page_figure(figure, labels, elsewhere)
        for figure in figures
        if isinstance(figure, SavedFigure)
    ]
    saved.sort(key=lambda figure: not figure["number"])  # the paper's come before our own additions
    families = [(title, list(group)) for title, group in groupby(saved, itemgetter("title"))]
    body = part(
        "figures",
        shown=[(title, group) for title, group in families if group[0]["source"]],
        families=families,
        left_out=[figure for figure in figures if isinstance(figure, LeftOut)],
    )
    return Section("figures", "Figures", body, ("figures.css",), ("panels.js",))


def _page_figure(
    figure: SavedFigure, labels: Iterable[str], elsewhere: Sequence[str]
) -> dict[str, Any]:
    """A figure as it stands in the page: the title of its family, its setting's label, and its
    files by kind.

    source: a data URI, empty where the page shows it otherwise. width: on the page, in CSS pixels.
    """
    label = next((label for label in labels if figure.title.endswith(f", {label}")), "")
    title = figure.title.removesuffix(f", {label}") if label else figure.title
    source, width = (
        ("", 0) if figure.chart or figure.name.startswith(tuple(elsewhere)) else embedded(figure)
    )
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
    """Data URI and width of a saved figure. Photographs are WebP in the page, a tenth of the bytes;
    the PNG file is exact.
    """
    kind, data = "png", figure.png.read_bytes()
    image = Image.open(io.BytesIO(data))
    if len(data) > PHOTOGRAPH_BYTES:
        buffer = io.BytesIO()
        image.convert("RGB").save(
            buffer, "WEBP", quality=90, method=2
        )  # 4, the default, takes twice as long
        kind, data = "webp", buffer.getvalue()
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}", round(
        CSS_DPI * image.width / DPI
    )
