"""The figures of a report, in order: saved by this process alone or with others, and their section of the page."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from subprocess import Popen
from typing import Any

from PIL import Image

from axiom_bench.report.charts import by_depth, by_method, curves, matrices, pictures, ranking, scatter
from axiom_bench.report.charts.drawing import DPI, Drawing, LeftOut
from axiom_bench.report.options import options_of
from axiom_bench.report.page.html import Section, part
from axiom_bench.statistics.run_folder import MANY, RunFolder

# The errors by depth where a run has several layers; then the paper's figures by number; then our own.
FIGURES = (
    by_depth.draw, pictures.draw_pair, by_method.draw_networks, matrices.draw, pictures.draw_perturbed,
    pictures.draw_grid, ranking.draw, ranking.draw_mean_ranks, scatter.draw, curves.draw,
)  # fmt: skip
SHARED = by_method.draw  # the last, which take most of the time and little before they are drawn: processes share them
FOLDER = "figures"  # in the run folder


@dataclass(frozen=True)
class SavedFigure:
    """A figure whose files are written. png: path of the PNG. number: of the paper's figure that it is."""

    name: str
    title: str
    caption: str
    png: Path
    number: str = ""


def save_figures(
    run: RunFolder, processes: Sequence[Popen[bytes]] = (), tell: Callable[[str], None] = lambda step: None
) -> list[SavedFigure | LeftOut]:
    """Write figures/*.png and the other formats of `config.report.figures`; what was saved or left out, in order.

    processes: from `drawing_processes`. A share whose process failed is drawn here, so that the cause is raised as it
    is without processes: BenchError where a file of the run can't be read or the folder can't be written.
    """
    count = 1 + len(processes)
    figures = save_share(run, 0, count, tell)
    for index, process in enumerate(processes, start=1):
        tell(f"figures of process {index + 1} of {count}")
        if process.wait() != 0:
            save_share(run, index, count, tell)
    return figures


def save_share(
    run: RunFolder, index: int, count: int, tell: Callable[[str], None] = lambda step: None
) -> list[SavedFigure | LeftOut]:
    """Save one of `count` shares of the figures, one at a time: the first has all that aren't shared, and hands back
    what all shares save or leave out."""
    figures: list[SavedFigure | LeftOut] = []
    if index == 0:
        figures += [_handled(run, figure, True, tell) for draw in FIGURES for figure in draw(run)]
    for place, figure in enumerate(SHARED(run)):
        is_own = _share(place, count, len(run.records) >= MANY) == index
        if is_own or index == 0:
            figures.append(_handled(run, figure, is_own, tell))
    return figures


def _handled(
    run: RunFolder, figure: Drawing | LeftOut, is_own: bool, tell: Callable[[str], None]
) -> SavedFigure | LeftOut:
    if isinstance(figure, LeftOut):
        return figure
    folder, options = run.path / FOLDER, options_of(run).figures
    if is_own:
        tell(f"figure {figure.file_name}")
        figure.save(folder, options.formats, options.columns)
    return SavedFigure(figure.file_name, figure.title, figure.caption, figure.png_path(folder), figure.number)


def _share(place: int, count: int, is_large: bool) -> int:
    """The share of a figure: the first, of the process that writes tables and page as well, is a third of each other;
    of a large run, which it also compares meanwhile, it has none."""
    if is_large and count > 1:
        return 1 + place % (count - 1)
    return (place % (3 * count - 2) + 2) // 3


def all_figures(run: RunFolder) -> Iterator[Drawing | LeftOut]:
    """In the order of the report; each is drawn when it is asked for."""
    for draw in (*FIGURES, SHARED):
        yield from draw(run)


PHOTOGRAPH_BYTES = 2**19  # of a PNG, more than of a plot
CSS_DPI = 125  # larger than in print (96), where their text has 7 to 8 points
# Beginnings of the names of figures that the charts, or the gallery, show with all their values.
CHARTED = ("by_method_", "over_models_", "axiom_plane", "by_depth", "perturbation_")
IN_GALLERY = ("maps_",)


def section(run: RunFolder, figures: Iterable[SavedFigure | LeftOut], elsewhere: Sequence[str]) -> Section:
    """elsewhere: beginnings of the names of figures that another section shows."""
    figures = list(figures)
    labels = ("over all", *map(run.label, run.settings), *(run.manifest.get("models") or ()))
    saved = [_page_figure(figure, labels, elsewhere) for figure in figures if isinstance(figure, SavedFigure)]
    saved.sort(key=lambda figure: not figure["number"])  # the paper's come before our own additions
    families = [(title, list(group)) for title, group in groupby(saved, itemgetter("title"))]
    body = part(
        "figures",
        shown=[(title, group) for title, group in families if group[0]["source"]],
        families=families,
        left_out=[figure for figure in figures if isinstance(figure, LeftOut)],
    )
    return Section("figures", "Figures", body, ("figures.css",), ("panels.js",))


def _page_figure(figure: SavedFigure, labels: Iterable[str], elsewhere: Sequence[str]) -> dict[str, Any]:
    """A figure as it stands in the page: the title of its family, its setting's label, and its files by kind.

    source: a data URI, empty where the page shows it otherwise. width: on the page, in CSS pixels.
    """
    label = next((label for label in labels if figure.title.endswith(f", {label}")), "")
    title = figure.title.removesuffix(f", {label}") if label else figure.title
    source, width = ("", 0) if figure.name.startswith(tuple(elsewhere)) else embedded(figure)
    paths = sorted(figure.png.parent.glob(f"{figure.name}.*"))
    files = {path.suffix[1:].upper(): f"{FOLDER}/{path.name}" for path in paths}
    return {**vars(figure), "title": title, "label": label, "source": source, "width": width, "files": files}


def embedded(figure: SavedFigure) -> tuple[str, int]:
    """Data URI and width of a saved figure. Photographs are WebP in the page, a tenth of the bytes; the PNG file is
    exact."""
    kind, data = "png", figure.png.read_bytes()
    image = Image.open(io.BytesIO(data))
    if len(data) > PHOTOGRAPH_BYTES:
        buffer = io.BytesIO()
        image.convert("RGB").save(buffer, "WEBP", quality=90, method=2)  # 4, the default, takes twice as long
        kind, data = "webp", buffer.getvalue()
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}", round(CSS_DPI * image.width / DPI)
