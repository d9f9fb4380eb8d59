"""The page of explained images: one HTML file in the look of the report, which loads nothing."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray
from PIL import Image

from axiom_bench.cli.explain.explained import ClassScore, ExplainedImage, ExplainedMap
from axiom_bench.data.formats.file_names import as_text
from axiom_bench.explanation.overlay import blend
from axiom_bench.report.page.html import Header, Section, assemble, render


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
    """A data URI."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "WEBP", quality=90, method=2)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"
