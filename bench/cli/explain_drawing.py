"""Draw explained images: a figure of one image, or a page of several, which is the report's
gallery.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd

from axiom_bench.cli.explain_images import DATA, ExplainedImage
from axiom_bench.columns import OBJECT
from axiom_bench.data.formats.files import as_text
from axiom_bench.errors import plural, verb
from axiom_bench.explanation.heatmaps import DPI, ClassScore
from axiom_bench.explanation.overlay import disagreement, webp
from axiom_bench.records.by_metric import Records
from axiom_bench.records.entries import Manifest
from axiom_bench.records.store import GalleryRow
from axiom_bench.report import gallery
from axiom_bench.report.charts.drawing import can_draw, style, with_plain_texts
from axiom_bench.report.page.html import Header, Section, assemble, render
from axiom_bench.statistics.labels import Setting
from axiom_bench.statistics.run_folder import RunFolder, in_order

# Metadata without dates and versions, so that the same explanation gives the same bytes.
DATELESS: dict[str, dict[str, None]] = {
    "png": {"Software": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    "svg": {"Date": None},
}


def picture(explained: ExplainedImage, model: str, kind: str, colours: str) -> bytes:
    """Return the figure of an image as the content of a file.

    Args:
        explained: The image with its maps.
        model: The text about the model in the heading.
        kind: matplotlib's name of the file's format.
        colours: A colour map of matplotlib.
    """
    maps = copy(explained.maps)
    maps.scores = [_drawable(score) for score in maps.scores]
    maps.top = [[_drawable(score) for score in top] for top in maps.top]
    maps.layer = ""
    names = [f"{as_text(explained.path.name)}: {model}"] * len(maps.scores)
    # Without the salt the ids in an SVG are random.
    with style(), matplotlib.rc_context({"svg.hashsalt": "axiom-bench"}):
        figure = with_plain_texts(maps.figure(names, colours))
        buffer = io.BytesIO()
        options: dict[str, Any] = {}
        if kind in ("jpeg", "webp"):
            options["pil_kwargs"] = {"quality": 92}
        figure.savefig(buffer, format=kind, dpi=DPI, metadata=DATELESS.get(kind), **options)
    return buffer.getvalue()


def _drawable(score: ClassScore) -> ClassScore:
    """Return the score, with the class's number as its name if no font has the signs of the
    name.
    """
    return replace(score, name=_name(score))


def _name(score: ClassScore) -> str:
    """Return the class's name, or its number if no font has the signs of the name."""
    return score.name if can_draw(score.name) else f"class {score.index}"


def missing_font_notes(images: Sequence[ExplainedImage]) -> list[str]:
    """Return a sentence if pictures show numbers instead of names, otherwise nothing."""
    scores = [score for image in images for score in chain(image.maps.scores, *image.maps.top)]
    names = [*dict.fromkeys(score.name for score in scores if _name(score) != score.name)]
    if not names:
        return []
    return [
        f"{plural(len(names), 'class name')}, as {names[0]!r}, {verb(len(names), 'has', 'have')} "
        "signs that no font of this machine has, so pictures show the classes' numbers; install "
        "one, such as Noto Sans CJK."
    ]


def page(
    images: Sequence[ExplainedImage], manifest: Manifest, sentences: Sequence[str], colours: str
) -> str:
    """Return a page with the gallery of the report, of these images.

    Args:
        images: The explained images.
        manifest: The result of `Explainer.manifest`.
        sentences: Notes about images and methods that are left out.
        colours: A colour map of matplotlib.

    Raises:
        BenchError: For an unknown colour map.
    """
    ((model, about),) = manifest.models.items()
    setting = Setting(model, about.layer, DATA)
    entries = []
    for image in images:
        entries += [_entry(setting, image, row) for row in range(len(image.maps.scores))]
    # A run with records only: the gallery reads neither run times nor values of a whole data set.
    run = RunFolder(
        Path(),
        manifest,
        in_order(_records(setting, images), manifest),
        _records(setting, []),
        runtime=pd.DataFrame(),
        whole_set=pd.DataFrame(),
    )
    data = gallery.gallery_data(run, entries, gallery.data_address)
    sections = [gallery.gallery_section(data, colours=colours)]
    if sentences:
        notes = render("explain_notes.html.j2", sentences=sentences)
        sections.append(Section("notes", "Notes", notes))
    count = plural(len(images), "image")
    facts = {
        "Network": f"{model} at {setting.layer}",
        "Accuracy": "not known: the images have no labels",
    }
    return assemble(Header("axiom-bench explain", f"{count} explained", facts), sections)


def _records(setting: Setting, images: Sequence[ExplainedImage]) -> Records:
    """Return the axiom errors as a run's records."""
    rows = []
    for image in images:
        errors = image.maps.errors.sort_values("row", kind="stable")
        for row, method, metric, value, status in errors.itertuples(index=False, name=None):
            target = image.maps.scores[row].index
            image_id = _image_id(image, row)
            rows.append((*setting, image_id, target, method, metric, value, status))
    columns = [*Setting._fields, "image_id", "target_class", "method", "metric", "value", "status"]
    return Records.of(pd.DataFrame(rows, columns=columns))


def _image_id(image: ExplainedImage, row: int) -> str:
    """Return the id of the image that a row explains, or of one object or word of it."""
    name = as_text(image.path)
    if image.maps.scores[row].box is None and not image.maps.texts:
        return name
    return f"{name}{OBJECT}{row:03d}"


def _entry(setting: Setting, image: ExplainedImage, row: int) -> GalleryRow:
    """Return a row of `records.store.GALLERY`, with the top classes and the methods whose map is
    zero.
    """
    maps = image.maps
    score = maps.scores[row]
    height, width = image.pixels.shape[:2]
    heatmaps = [maps[method][row].cpu().numpy() for method in maps]
    drawn_maps: list[bytes | None] = []
    for heatmap in heatmaps:
        # A map that is zero or isn't finite has no picture.
        can_be_drawn = heatmap.any() and np.isfinite(heatmap).all()
        drawn_maps.append(webp(np.round(255 * heatmap)) if can_be_drawn else None)
    predicted = maps.top[row][0]
    return GalleryRow(
        model=setting.model,
        layer=setting.layer,
        data=setting.data,
        image_id=_image_id(image, row),
        target_class=score.index,
        target_name=score.name,
        target_probability=score.value if score.is_probability else None,
        predicted_class=predicted.index,
        predicted_name=predicted.name,
        predicted_probability=predicted.value if predicted.is_probability else None,
        width=width,
        height=height,
        outline=None,
        boxes=[] if score.box is None else [list(score.box)],
        picture=webp(image.pixels),
        methods=list(maps),
        maps=drawn_maps,
        disagreement=disagreement([heatmap.astype(np.float64) for heatmap in heatmaps]),
        top=[(top.name, top.text) for top in maps.top[row]],
        zero=[method for method in maps if maps.is_zero(row, method)],
    )
