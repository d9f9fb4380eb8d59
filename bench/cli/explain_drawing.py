"""Explained images as files: a picture of one, in one figure, and a page of several, in the look of the report."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from axiom_bench.cli.explain_images import ClassScore, ExplainedImage, ExplainedMap
from axiom_bench.data.formats.files import as_text
from axiom_bench.explanation.overlay import blend
from axiom_bench.report.charts.drawing import canvas, style
from axiom_bench.report.page.html import Header, Section, assemble, render

COLUMNS = 6
SIDE = 1.9  # inches of a map
CAPTION = 0.55  # inches for the title of a map and its errors
BAR = "#bcdff5"  # light, since the names are written on it
DPI = 150
MAX_NAME = 40  # characters of a class in a bar
DATELESS: dict[str, dict[str, Any]] = {  # the same explanation gives the same bytes
    "png": {"Software": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    "svg": {"Date": None},
}


def picture(explained: ExplainedImage, model: str, kind: str, colours: str) -> bytes:
    """The figure as a file. model: named in the heading. kind: matplotlib's name of the format."""
    with style(), matplotlib.rc_context({"svg.hashsalt": "axiom-bench"}):  # else ids in an SVG are drawn by chance
        figure = _figure(explained, model, colours)
        buffer = io.BytesIO()
        options: dict[str, Any] = {"pil_kwargs": {"quality": 92}} if kind in ("jpeg", "webp") else {}
        figure.savefig(buffer, format=kind, dpi=DPI, metadata=DATELESS.get(kind), **options)
    return buffer.getvalue()


def _figure(explained: ExplainedImage, model: str, colours: str) -> Figure:
    count = max(len(maps) for _, maps in explained.maps)
    columns = max(2, math.ceil(count / math.ceil(count / COLUMNS)))  # rows of about the same length
    rows = [math.ceil(len(maps) / columns) for _, maps in explained.maps]
    heights = [SIDE + 0.3, *(count * (SIDE + CAPTION) + 0.3 for count in rows)]
    figure = canvas(columns * SIDE + 0.3, sum(heights))
    parts = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    _head(parts[0], explained, model, columns)
    for part, (score, maps), count in zip(parts[1:], explained.maps, rows, strict=True):
        part.suptitle(f"Explained: {_plain(score.name)} ({score.text})", fontsize=10)
        for place, shown in enumerate(maps, start=1):
            _panel(part.add_subplot(count, columns, place), explained, shown, colours)
    return figure


def _head(part: Any, explained: ExplainedImage, model: str, columns: int) -> None:
    left, right = part.subplots(1, 2, width_ratios=[1, columns - 1])
    _bare(left)
    left.imshow(explained.pixels)
    part.suptitle(_plain(f"{as_text(explained.path.name)}: {model}"), fontsize=10)
    shares = [score.value if score.is_probability else 0 for score in explained.top]
    right.barh(range(len(shares)), shares, color=BAR, height=0.72)
    for place, score in enumerate(explained.top):
        name = score.name if len(score.name) <= MAX_NAME else f"{score.name[: MAX_NAME - 1]}\N{HORIZONTAL ELLIPSIS}"
        right.text(0.0, place, f" {_plain(name)}  {score.text}", va="center", fontsize=8)
    right.set(xlim=(0, 1), ylim=(len(explained.top) - 0.4, -0.6), yticks=[])
    right.set_title("Top classes", fontsize=8, fontweight="normal")
    right.grid(False)
    right.tick_params(labelsize=7)
    for side in ("left", "right", "top"):
        right.spines[side].set_visible(False)


def _panel(axis: Any, explained: ExplainedImage, shown: ExplainedMap, colours: str) -> None:
    _bare(axis)
    axis.imshow(blend(explained.pixels, shown.heatmap, colours))
    axis.set_title(_plain(shown.method), loc="center", fontsize=8, fontweight="normal")
    axis.set_xlabel(_plain("\n".join(shown.lines())), fontsize=6.5)


def _bare(axis: Any) -> None:
    axis.set(xticks=[], yticks=[])
    axis.grid(False)
    for side in axis.spines.values():
        side.set_visible(False)


def _plain(text: str) -> str:
    """Text as it stands: matplotlib would read a formula between two dollar signs."""
    return text.replace("$", r"\$")


def page(images: Sequence[ExplainedImage], model: str, sentences: Sequence[str], colours: str) -> str:
    """A section for each image. sentences: about images and methods that are left out."""
    sections = [_section(f"image-{number}", image, colours) for number, image in enumerate(images, start=1)]
    if sentences:
        sections.append(Section("notes", "Notes", render("explain_notes.html.j2", sentences=sentences)))
    count = f"{len(images)} image{'s' if len(images) > 1 else ''}"
    return assemble(Header("axiom-bench explain", f"{count} explained", {"Network": model}), sections)


def _section(name: str, image: ExplainedImage, colours: str) -> Section:
    height, width = image.pixels.shape[:2]
    body = render(
        "explain.html.j2",
        file=as_text(image.path),
        picture=_source(image.pixels),
        width=width,
        height=height,
        top=[_row(score) for score in image.top],
        classes=[
            {**_row(score), "maps": [_map(shown, image, colours) for shown in maps]} for score, maps in image.maps
        ],
    )
    return Section(name, as_text(image.path.name), body, styles=("explain.css",))


def _row(score: ClassScore) -> dict[str, Any]:
    return {"name": score.name, "share": score.value if score.is_probability else 0.0, "text": score.text}


def _map(shown: ExplainedMap, image: ExplainedImage, colours: str) -> dict[str, Any]:
    picture = _source(blend(image.pixels, shown.heatmap, colours))
    return {"method": shown.method, "picture": picture, "lines": shown.lines()}


def _source(pixels: NDArray[Any]) -> str:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "WEBP", quality=90, method=2)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"
