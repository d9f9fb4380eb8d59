"""Explained images as files: a picture of one, in one figure, and a page of several, the
gallery of the report."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from axiom_bench.cli.explain_images import DATA, ClassScore, ExplainedImage
from axiom_bench.columns import OBJECT
from axiom_bench.data.formats.files import as_text
from axiom_bench.explanation.overlay import blend, disagreement, panel, webp
from axiom_bench.records.by_metric import Records
from axiom_bench.report import gallery
from axiom_bench.report.charts.drawing import can_draw, canvas, style, with_plain_texts
from axiom_bench.report.page.html import Header, Section, assemble, render
from axiom_bench.statistics.labels import Setting
from axiom_bench.statistics.run_folder import RunFolder, in_order

COLUMNS = 6
SIDE = 1.9  # inches of a map
CAPTION = 0.55  # inches for the title of a map and its errors
BOX = "white"  # the edge of an object's box, on heat
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
        figure = with_plain_texts(_figure(explained, model, colours))
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
        part.suptitle(f"Explained: {_name(score)} ({score.text})", fontsize=10)
        for place, shown in enumerate(maps, start=1):
            pixels = np.full_like(explained.pixels, 255)  # white, where no heat is
            if not shown.is_zero:
                pixels = blend(explained.pixels, shown.heatmap, colours)
            panel(axes := part.add_subplot(count, columns, place), pixels, shown.title, "\n".join(shown.lines()))
            if score.box is not None:
                x0, y0, x1, y1 = score.box
                axes.add_patch(Rectangle((x0 - 0.5, y0 - 0.5), x1 - x0, y1 - y0, fill=False, ec=BOX, lw=1))
    return figure


def _head(part: Any, explained: ExplainedImage, model: str, columns: int) -> None:
    left, right = part.subplots(1, 2, width_ratios=[1, columns - 1])
    panel(left, explained.pixels, "")
    part.suptitle(f"{as_text(explained.path.name)}: {model}", fontsize=10)
    shares = [score.value if score.is_probability else 0 for score in explained.top]
    right.barh(range(len(shares)), shares, color=BAR, height=0.72)
    for place, score in enumerate(explained.top):
        name = _name(score)
        name = name if len(name) <= MAX_NAME else f"{name[: MAX_NAME - 1]}\N{HORIZONTAL ELLIPSIS}"
        right.text(0.0, place, f" {name}  {score.text}", va="center", fontsize=8)
    right.set(xlim=(0, 1), ylim=(len(explained.top) - 0.4, -0.6), yticks=[])
    right.set_title("Top classes" if explained.top[0].box is None else "Objects", fontsize=8, fontweight="normal")
    right.grid(False)
    right.tick_params(labelsize=7)
    for side in ("left", "right", "top"):
        right.spines[side].set_visible(False)


def _name(score: ClassScore) -> str:
    """The class's name, or its number where no font has the signs of its name."""
    return score.name if can_draw(score.name) else f"class {score.index}"


def undrawn(images: Sequence[ExplainedImage]) -> list[str]:
    """A sentence where pictures have numbers in the place of names."""
    scores = [score for image in images for score in (*image.top, *(of_class for of_class, _ in image.maps))]
    names = [*dict.fromkeys(score.name for score in scores if _name(score) != score.name)]
    sentence = (
        "signs that no font of this machine has, so pictures show the classes' numbers; install one, such as Noto"
    )
    return [f"{len(names)} class names, as {names[0]!r}, have {sentence} Sans CJK."] if names else []


def page(images: Sequence[ExplainedImage], manifest: Mapping[str, Any], sentences: Sequence[str], colours: str) -> str:
    """The gallery of the report, with these images. manifest: see `Explainer.manifest`. sentences: about images and
    methods that are left out. Raises BenchError for an unknown colour map."""
    ((model, about),) = manifest["models"].items()
    setting = Setting(model, about["layer"], DATA)
    pictures = [_entry(setting, image, place) for image in images for place in range(len(image.maps))]
    records, nothing = in_order(_records(setting, images), manifest), pd.DataFrame()
    run = RunFolder(Path(), manifest, records, _records(setting, []), runtime=nothing, whole_set=nothing)
    sections = [gallery.section_of(gallery.gallery_data(run, pictures, gallery.inline), colours=colours)]
    if sentences:
        sections.append(Section("notes", "Notes", render("explain_notes.html.j2", sentences=sentences)))
    count = f"{len(images)} image{'s' if len(images) > 1 else ''}"
    facts = {"Network": f"{model} at {setting.layer}", "Accuracy": "not known: the images have no labels"}
    return assemble(Header("axiom-bench explain", f"{count} explained", facts), sections)


def _records(setting: Setting, images: Sequence[ExplainedImage]) -> Records:
    """The axiom errors as a run's records."""
    rows = [
        (*setting, _image_id(image, place), score.index, shown.method, error.metric, error.value, error.status)
        for image in images
        for place, (score, maps) in enumerate(image.maps)
        for shown in maps
        for error in shown.errors
    ]
    columns = [*Setting._fields, "image_id", "target_class", "method", "metric", "value", "status"]
    return Records.of(pd.DataFrame(rows, columns=columns))


def _image_id(image: ExplainedImage, place: int) -> str:
    """Of what is explained at this place of the image's maps: the image, or one object of it."""
    is_object = image.maps[place][0].box is not None
    return f"{as_text(image.path)}{OBJECT}{place:03d}" if is_object else as_text(image.path)


def _entry(setting: Setting, image: ExplainedImage, place: int) -> dict[str, Any]:
    """As a row of `records.store.GALLERY`, with the top classes and the methods whose map is zero."""
    score, maps = image.maps[place]
    height, width = image.pixels.shape[:2]
    drawn = [not shown.is_zero and np.isfinite(shown.heatmap).all() for shown in maps]
    entry = {
        **setting._asdict(),
        **{"image_id": _image_id(image, place), "width": width, "height": height, "outline": None},
        "boxes": [] if score.box is None else [list(score.box)],
        "picture": webp(image.pixels),
        "methods": [shown.method for shown in maps],
        "maps": [
            webp(np.round(255 * shown.heatmap)) if is_drawn else None
            for shown, is_drawn in zip(maps, drawn, strict=True)
        ],
        "disagreement": disagreement([shown.heatmap.astype(np.float64) for shown in maps]),
        "top": [(top.name, top.text) for top in image.top],
        "zero": [shown.method for shown in maps if shown.is_zero],
    }
    for role, of_role in (("target", score), ("predicted", image.top[0])):
        entry[f"{role}_class"], entry[f"{role}_name"] = of_role.index, of_role.name
        entry[f"{role}_probability"] = of_role.value if of_role.is_probability else None
    return entry
