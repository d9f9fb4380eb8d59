"""Fig 1 of the paper: a coarse map and its fine-grained form on one image."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from matplotlib.figure import Figure

from axiom_bench.explanation.overlay import blend
from axiom_bench.report.figures.drawing import Drawing, LeftOut, canvas
from axiom_bench.report.figures.pictures import Pictures, load, show
from axiom_bench.report.run_folder import RunFolder

TITLE = "Two methods on one image"
SIDE = 2.0


def draw(run: RunFolder) -> Iterator[Drawing | LeftOut]:
    """One figure for each model, of the methods that `config.report.figures.pair` names, on the first image."""
    methods = run.options.figures.pair
    if not methods:
        yield LeftOut(TITLE, "config.report.figures.pair names no methods.")
        return
    drawn = False
    for pictures in load(run):
        if set(methods) <= set(pictures.methods) and len(pictures.images):
            drawn = True
            yield _drawing(pictures, methods)
    if not drawn:
        yield LeftOut(TITLE, f"The run stored no pictures of all of {', '.join(methods)}.")


def _drawing(pictures: Pictures, methods: tuple[str, ...]) -> Drawing:
    caption = f"{pictures.model} at {pictures.layer}: {' and '.join(methods)} on {pictures.image_ids[0]}."
    return Drawing(f"pair_{pictures.slug}", f"{TITLE}, {pictures.model}", caption, partial(_plot, pictures, methods))


def _plot(pictures: Pictures, methods: tuple[str, ...]) -> Figure:
    image = pictures.images[0]
    figure = canvas(SIDE * (1 + len(methods)) + 0.3, SIDE + 0.25)
    first, *others = figure.subplots(1, 1 + len(methods), squeeze=False)[0]
    show(first, image, pictures.class_names[0])
    for axes, method in zip(others, methods, strict=True):
        show(axes, blend(image, pictures.heatmaps[pictures.methods.index(method), 0]), method)
    return figure
