"""Fig 5 of the paper: the maps of all methods side by side, a row for each image."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from axiom_bench.explanation.overlay import blend
from axiom_bench.report.figures.drawing import Drawing, LeftOut, canvas
from axiom_bench.report.figures.pictures import Pictures, Pixels, load, show, wrapped
from axiom_bench.report.run_folder import RunFolder

TITLE = "Maps side by side"
SIDE = 1.15
MAX_METHODS = 14  # side by side
GAP = 0.06  # between two maps, of a map's side


def draw(run: RunFolder) -> Iterator[Drawing | LeftOut]:
    """One figure for each model; `config.report.figures.grid` may choose the methods, else all are shown."""
    drawn = False
    for pictures in load(run):
        chosen = run.options.figures.grid or pictures.methods
        methods = [name for name in pictures.methods if name in chosen]
        if methods and len(pictures.images):
            drawn = True
            yield _drawing(pictures, methods)
    if not drawn:
        yield LeftOut(TITLE, "The run stored no pictures of the chosen methods.")


def _bands(methods: list[str]) -> list[list[str]]:
    """The methods in bands of about the same width, so that many of them stay readable on a page."""
    columns = math.ceil(len(methods) / math.ceil(len(methods) / MAX_METHODS))
    return [methods[start : start + columns] for start in range(0, len(methods), columns)]


def mosaic(tiles: list[list[Pixels]], gap: int) -> Pixels:
    """Rows of pictures (H, W, 3) of one size as one picture, white between them and where a row is short."""
    height, width = tiles[0][0].shape[:2]
    rows, columns = len(tiles), max(map(len, tiles))
    picture = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), 255, np.uint8)
    for i, row in enumerate(tiles):
        for j, tile in enumerate(row):
            top, left = i * (height + gap), j * (width + gap)
            picture[top : top + height, left : left + width] = tile
    return picture


def _fill(axes: Any, pictures: Pictures, methods: list[str], columns: int) -> None:
    """A row for each image: itself, then the methods' maps. One picture in one pair of axes: a pair of axes for each
    map took ten times as long. columns: of the widest band."""
    places = [pictures.methods.index(method) for method in methods]
    tiles = [
        [image, *(blend(image, pictures.heatmaps[place, i]) for place in places)]
        for i, image in enumerate(pictures.images)
    ]
    height, width = pictures.images.shape[1:3]
    gap = max(1, round(GAP * width))
    show(axes, mosaic(tiles, gap))
    axes.set_xlim(-0.5, columns * (width + gap) - gap - 0.5)
    for column, title in enumerate(["image", *map(wrapped, methods)]):
        axes.text(column * (width + gap) + width / 2, -gap, title, ha="center", va="bottom", fontsize=8)
    for row, name in enumerate(pictures.class_names):
        axes.text(-gap, row * (height + gap) + height / 2, wrapped(name), ha="right", va="center", fontsize=8)


def _drawing(pictures: Pictures, methods: list[str]) -> Drawing:
    caption = (
        f"{pictures.model} at {pictures.layer}: each map, scaled to its maximum, over the grey image; beside a row its "
        f"explained class. Images: {', '.join(dict.fromkeys(pictures.image_ids))}."
    )
    return Drawing(f"maps_{pictures.slug}", f"{TITLE}, {pictures.model}", caption, partial(_plot, pictures, methods))


def _plot(pictures: Pictures, methods: list[str]) -> Figure:
    bands = _bands(methods)
    columns = 1 + len(bands[0])
    figure = canvas(SIDE * columns + 1.1, (SIDE * len(pictures.images) + 0.5) * len(bands))
    parts = figure.subfigures(len(bands), 1, squeeze=False)[:, 0]
    for part, band in zip(parts, bands, strict=True):
        _fill(part.subplots(), pictures, band, columns)
    return figure
