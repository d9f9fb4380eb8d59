"""The figures of the report in the page, and those left out with their reasons."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable
from dataclasses import dataclass

from PIL import Image

from axiom_bench.report.figures import by_method
from axiom_bench.report.figures.drawing import DPI, LeftOut
from axiom_bench.report.figures.saving import SavedFigure
from axiom_bench.report.page.section import Section
from axiom_bench.report.page.templating import render

MAX_OPEN_BOX_PLOTS = 12  # of more, a reader opens the list
PHOTOGRAPH_BYTES = 2**19  # of a PNG, more than of a plot
CSS_DPI = 125  # larger than in print (96), where their text has 7 to 8 points


def section(figures: Iterable[SavedFigure | LeftOut]) -> Section:
    """Figures in the order of the report; box-plots by method together, folded where they are many."""
    figures = list(figures)
    drawn = [embedded(figure) for figure in figures if isinstance(figure, SavedFigure)]
    box_plots = [figure for figure in drawn if figure.name.startswith(by_method.PREFIX)]
    body = render(
        "figures.html.j2",
        figures=[figure for figure in drawn if figure not in box_plots],
        box_plots=box_plots,
        max_open=MAX_OPEN_BOX_PLOTS,
        left_out=[figure for figure in figures if isinstance(figure, LeftOut)],
    )
    return Section("figures", "Figures", body)


@dataclass(frozen=True)
class EmbeddedFigure:
    """A figure as it stands in the page. source: a data URI. width: on the page, in CSS pixels."""

    name: str
    title: str
    caption: str
    source: str
    width: int


def embedded(figure: SavedFigure) -> EmbeddedFigure:
    """A saved figure in the page. Photographs are WebP there, a tenth of the bytes; the PNG file is exact."""
    kind, data = "png", figure.png.read_bytes()
    image = Image.open(io.BytesIO(data))
    if len(data) > PHOTOGRAPH_BYTES:
        buffer = io.BytesIO()
        image.convert("RGB").save(
            buffer, "WEBP", quality=90, method=2
        )  # 4, the default, takes twice as long for the same bytes
        kind, data = "webp", buffer.getvalue()
    source = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
    return EmbeddedFigure(figure.name, figure.title, figure.caption, source, round(CSS_DPI * image.width / DPI))
