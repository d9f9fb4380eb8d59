"""Fig 5 of the paper: the maps of all methods side by side, a row for each image."""

from __future__ import annotations

from collections.abc import Iterator

from bench.report.figures.drawing import Drawing, LeftOut, canvas, style
from bench.report.figures.pictures import Pictures, load, overlay, show, wrapped
from bench.report.run_folder import RunFolder

TITLE = "Maps side by side"
SIDE = 1.15


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


def _drawing(pictures: Pictures, methods: list[str]) -> Drawing:
    rows, columns = len(pictures.images), 1 + len(methods)
    with style():
        figure = canvas(SIDE * columns + 1.1, SIDE * rows + 0.5)
        grid = figure.subplots(rows, columns, squeeze=False)
        for i, image in enumerate(pictures.images):
            show(grid[i, 0], image, "image" if i == 0 else "", wrapped(pictures.class_names[i]))
            for axes, method in zip(grid[i, 1:], methods, strict=True):
                heat = pictures.heatmaps[pictures.methods.index(method), i]
                show(axes, overlay(image, heat), wrapped(method) if i == 0 else "")
    caption = (
        f"{pictures.model} at {pictures.layer}: each map, scaled to its maximum, over the grey image; beside a row its "
        f"explained class. Images: {', '.join(dict.fromkeys(pictures.image_ids))}."
    )
    return Drawing(f"maps_{pictures.slug}", f"{TITLE}, {pictures.model}", caption, figure)
