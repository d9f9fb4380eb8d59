"""Fig 5 of the paper: the maps of all methods side by side, a row for each image."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from axiom_bench.report.figures.drawing import Drawing, LeftOut, canvas, style
from axiom_bench.report.figures.pictures import Pictures, load, overlay, show, wrapped
from axiom_bench.report.run_folder import RunFolder

TITLE = "Maps side by side"
SIDE = 1.15
WIDEST = 14  # methods side by side


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
    columns = math.ceil(len(methods) / math.ceil(len(methods) / WIDEST))
    return [methods[start : start + columns] for start in range(0, len(methods), columns)]


def _fill(grid: Any, pictures: Pictures, methods: list[str]) -> None:
    """A row for each image: itself, then the methods' maps. grid: (images, 1 + methods or more) axes."""
    for i, image in enumerate(pictures.images):
        show(grid[i, 0], image, "image" if i == 0 else "", wrapped(pictures.class_names[i]))
        for axes, method in zip(grid[i, 1:], methods, strict=False):
            heat = pictures.heatmaps[pictures.methods.index(method), i]
            show(axes, overlay(image, heat), wrapped(method) if i == 0 else "")
        for axes in grid[i, 1 + len(methods) :]:
            axes.set_axis_off()


def _drawing(pictures: Pictures, methods: list[str]) -> Drawing:
    bands = _bands(methods)
    columns = 1 + len(bands[0])
    with style():
        figure = canvas(SIDE * columns + 1.1, (SIDE * len(pictures.images) + 0.5) * len(bands))
        parts = figure.subfigures(len(bands), 1, squeeze=False)[:, 0]
        for part, band in zip(parts, bands, strict=True):
            _fill(part.subplots(len(pictures.images), columns, squeeze=False), pictures, band)
    caption = (
        f"{pictures.model} at {pictures.layer}: each map, scaled to its maximum, over the grey image; beside a row its "
        f"explained class. Images: {', '.join(dict.fromkeys(pictures.image_ids))}."
    )
    return Drawing(f"maps_{pictures.slug}", f"{TITLE}, {pictures.model}", caption, figure)
