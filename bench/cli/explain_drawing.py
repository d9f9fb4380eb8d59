"""Explained images as files: a picture of one, in one figure, and a page of several, the
gallery of the report.
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
from axiom_bench.explanation.heatmaps import DPI, ClassScore
from axiom_bench.explanation.overlay import disagreement, webp
from axiom_bench.records.by_metric import Records
from axiom_bench.records.entries import Manifest
from axiom_bench.report import gallery
from axiom_bench.report.charts.drawing import can_draw, style, with_plain_texts
from axiom_bench.report.page.html import Header, Section, assemble, render
from axiom_bench.statistics.labels import Setting
from axiom_bench.statistics.run_folder import RunFolder, in_order

DATELESS: dict[str, dict[str, Any]] = {  # the same explanation gives the same bytes
    "png": {"Software": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    "svg": {"Date": None},
}


def picture(explained: ExplainedImage, model: str, kind: str, colours: str) -> bytes:
    """Return the figure of an image as a file.

    Args:
        explained: The image with its maps.
        model: What the heading says about the model.
        kind: matplotlib's name of the file's format.
        colours: A colour map of matplotlib.
    """
    maps = copy(explained.maps)
    maps.scores = [_drawable(score) for score in maps.scores]
    maps.top = [[_drawable(score) for score in top] for top in maps.top]
    maps.layer = ""
    names = [f"{as_text(explained.path.name)}: {model}"] * len(maps.scores)
    with (
        style(),
        matplotlib.rc_context({"svg.hashsalt": "axiom-bench"}),
    ):  # otherwise ids in an SVG are drawn by chance
        figure = with_plain_texts(maps.figure(names, colours))
        buffer = io.BytesIO()
        options: dict[str, Any] = (
            {"pil_kwargs": {"quality": 92}} if kind in ("jpeg", "webp") else {}
        )
        figure.savefig(buffer, format=kind, dpi=DPI, metadata=DATELESS.get(kind), **options)
    return buffer.getvalue()


def _drawable(score: ClassScore) -> ClassScore:
    """Return the score with the class's number if no font has the signs of its name."""
    return replace(score, name=_name(score))


def _name(score: ClassScore) -> str:
    """The class's name, or its number where no font has the signs of its name."""
    return score.name if can_draw(score.name) else f"class {score.index}"


def undrawn(images: Sequence[ExplainedImage]) -> list[str]:
    """A sentence where pictures have numbers in the place of names."""
    scores = [score for image in images for score in chain(image.maps.scores, *image.maps.top)]
    names = [*dict.fromkeys(score.name for score in scores if _name(score) != score.name)]
    sentence = (
        "signs that no font of this machine has, so pictures show the classes' numbers; install "
        "one, such as Noto"
    )
    return (
        [f"{len(names)} class names, as {names[0]!r}, have {sentence} Sans CJK."] if names else []
    )


def page(
    images: Sequence[ExplainedImage], manifest: Manifest, sentences: Sequence[str], colours: str
) -> str:
    """The gallery of the report, with these images. manifest: see `Explainer.manifest`. sentences:
    about images and methods that are left out. Raises BenchError for an unknown colour map.
    """
    ((model, about),) = manifest.models.items()
    setting = Setting(model, about.layer, DATA)
    pictures = [
        _entry(setting, image, row) for image in images for row in range(len(image.maps.scores))
    ]
    records, nothing = in_order(_records(setting, images), manifest), pd.DataFrame()
    run = RunFolder(
        Path(), manifest, records, _records(setting, []), runtime=nothing, whole_set=nothing
    )
    sections = [
        gallery.section_of(gallery.gallery_data(run, pictures, gallery.inline), colours=colours)
    ]
    if sentences:
        sections.append(
            Section("notes", "Notes", render("explain_notes.html.j2", sentences=sentences))
        )
    count = f"{len(images)} image{'s' if len(images) > 1 else ''}"
    facts = {
        "Network": f"{model} at {setting.layer}",
        "Accuracy": "not known: the images have no labels",
    }
    return assemble(Header("axiom-bench explain", f"{count} explained", facts), sections)


def _records(setting: Setting, images: Sequence[ExplainedImage]) -> Records:
    """The axiom errors as a run's records."""
    rows = []
    for image in images:
        errors = image.maps.errors.sort_values("row", kind="stable")
        for row, *method_metric_value_status in errors.itertuples(index=False, name=None):
            target = image.maps.scores[row].index
            rows.append((*setting, _image_id(image, row), target, *method_metric_value_status))
    columns = [*Setting._fields, "image_id", "target_class", "method", "metric", "value", "status"]
    return Records.of(pd.DataFrame(rows, columns=columns))


def _image_id(image: ExplainedImage, row: int) -> str:
    """Return the id of what a row explains: the image, or one object of it."""
    is_object = image.maps.scores[row].box is not None
    return f"{as_text(image.path)}{OBJECT}{row:03d}" if is_object else as_text(image.path)


def _entry(setting: Setting, image: ExplainedImage, row: int) -> dict[str, Any]:
    """Return a row of `records.store.GALLERY`, with the top classes and the methods whose map is
    zero.
    """
    maps = image.maps
    score = maps.scores[row]
    height, width = image.pixels.shape[:2]
    heatmaps = [maps[method][row].cpu().numpy() for method in maps]
    drawn = [heatmap.any() and np.isfinite(heatmap).all() for heatmap in heatmaps]
    entry = {
        **setting._asdict(),
        "image_id": _image_id(image, row),
        "width": width,
        "height": height,
        "outline": None,
        "boxes": [] if score.box is None else [list(score.box)],
        "picture": webp(image.pixels),
        "methods": list(maps),
        "maps": [
            webp(np.round(255 * heatmap)) if is_drawn else None
            for heatmap, is_drawn in zip(heatmaps, drawn, strict=True)
        ],
        "disagreement": disagreement([heatmap.astype(np.float64) for heatmap in heatmaps]),
        "top": [(top.name, top.text) for top in maps.top[row]],
        "zero": [method for method in maps if maps.is_zero(row, method)],
    }
    for role, of_role in (("target", score), ("predicted", maps.top[row][0])):
        entry[f"{role}_class"] = of_role.index
        entry[f"{role}_name"] = of_role.name
        entry[f"{role}_probability"] = of_role.value if of_role.is_probability else None
    return entry
