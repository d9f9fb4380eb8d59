"""The figures of the report: those that no chart of the page shows are in it, the files of all are linked."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from PIL import Image

from axiom_bench.report.charts.drawing import DPI, LeftOut
from axiom_bench.report.charts.saving import FOLDER, SavedFigure
from axiom_bench.report.page.html import Section, render
from axiom_bench.statistics.run_folder import RunFolder

PHOTOGRAPH_BYTES = 2**19  # of a PNG, more than of a plot
CSS_DPI = 125  # larger than in print (96), where their text has 7 to 8 points
# Beginnings of the names of figures that the charts, or the gallery, show with all their values.
CHARTED = ("by_method_", "over_models_", "axiom_plane", "by_depth", "perturbation_")
IN_GALLERY = ("maps_",)


@dataclass(frozen=True)
class PageFigure:
    """A figure as it stands in the page. number: of the paper's figure that it is, or empty. label: of its setting, in
    a family of figures with one for each; else empty.

    source: a data URI, empty where the page shows it otherwise. width: on the page, in CSS pixels. files: {kind: path}.
    """

    name: str
    number: str
    title: str
    label: str
    caption: str
    source: str
    width: int
    files: dict[str, str]


def section(run: RunFolder, figures: Iterable[SavedFigure | LeftOut], elsewhere: Sequence[str]) -> Section:
    """elsewhere: beginnings of the names of figures that another section shows."""
    figures = list(figures)
    labels = ("over all", *map(run.label, run.settings), *(run.manifest.get("models") or ()))
    saved = [_page_figure(figure, labels, elsewhere) for figure in figures if isinstance(figure, SavedFigure)]
    saved.sort(key=lambda figure: not figure.number)  # the paper's come before our own additions
    families = [(title, list(group)) for title, group in groupby(saved, lambda figure: figure.title)]
    body = render(
        "figures.html.j2",
        shown=[(title, group) for title, group in families if group[0].source],
        families=families,
        left_out=[figure for figure in figures if isinstance(figure, LeftOut)],
    )
    return Section("figures", "Figures", body, ("figures.css",), ("panels.js",))


def _page_figure(figure: SavedFigure, labels: Iterable[str], elsewhere: Sequence[str]) -> PageFigure:
    title, label = _split(figure.title, labels)
    is_shown = not figure.name.startswith(tuple(elsewhere))
    source, width = embedded(figure) if is_shown else ("", 0)
    files = {kind: f"{FOLDER}/{name}" for kind, name in _files(figure)}
    return PageFigure(figure.name, figure.number, title, label, figure.caption, source, width, files)


def _split(title: str, labels: Iterable[str]) -> tuple[str, str]:
    """ "Pair of maps, scenes_vgg" -> ("Pair of maps", "scenes_vgg"): a family's title and one setting's label."""
    for label in labels:
        if title.endswith(f", {label}"):
            return title.removesuffix(f", {label}"), label
    return title, ""


def _files(figure: SavedFigure) -> Iterator[tuple[str, str]]:
    for path in sorted(figure.png.parent.glob(f"{figure.name}.*")):
        yield path.suffix[1:].upper(), path.name


def embedded(figure: SavedFigure) -> tuple[str, int]:
    """Data URI and width of a saved figure. Photographs are WebP in the page, a tenth of the bytes; the PNG file is
    exact."""
    kind, data = "png", figure.png.read_bytes()
    image = Image.open(io.BytesIO(data))
    if len(data) > PHOTOGRAPH_BYTES:
        buffer = io.BytesIO()
        image.convert("RGB").save(
            buffer, "WEBP", quality=90, method=2
        )  # 4, the default, takes twice as long for the same bytes
        kind, data = "webp", buffer.getvalue()
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}", round(CSS_DPI * image.width / DPI)
