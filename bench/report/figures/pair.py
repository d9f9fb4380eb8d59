"""Fig 1 of the paper: a coarse map and its fine-grained form on one image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from matplotlib.figure import Figure

from axiom_bench.explanation.overlay import blend
from axiom_bench.report.figures.drawing import LETTER, Drawing, LeftOut, canvas, wrapped
from axiom_bench.report.figures.pictures import Pictures, load, no_pictures, show
from axiom_bench.report.options import options_of
from axiom_bench.statistics.run_folder import RunFolder

TITLE = "Two methods on one image"
NUMBER = "Fig 1"
SIDE = 1.8  # inches, at most


def draw(run: RunFolder) -> Iterator[Drawing | LeftOut]:
    """One figure for each model, of the methods that `config.report.figures.pair` names, on the first image."""
    methods = options_of(run).figures.pair
    if not methods:
        yield LeftOut(TITLE, "No methods are chosen: report.figures.pair=[METHOD,METHOD].", NUMBER)
        return
    drawn = False
    for pictures in load(run):
        if set(methods) <= set(pictures.methods) and len(pictures.images):
            drawn = True
            yield _drawing(run, pictures, methods)
    if not drawn:
        yield LeftOut(TITLE, no_pictures(run, methods), NUMBER)


def _drawing(run: RunFolder, pictures: Pictures, methods: tuple[str, ...]) -> Drawing:
    titles = [run.metadata.method_title(method) for method in methods]
    caption = f"{pictures.model} at {pictures.layer}: {' and '.join(titles)} on {pictures.image_ids[0]}."
    plot = partial(_plot, pictures, methods, titles)
    return Drawing(f"pair_{pictures.slug}", f"{TITLE}, {pictures.model}", caption, plot, NUMBER)


def _plot(pictures: Pictures, methods: Sequence[str], titles: Sequence[str], width: float) -> Figure:
    image = pictures.images[0]
    side = min(SIDE, width / (1 + len(methods)))
    letters = int(side / LETTER)
    names = [wrapped(name, letters) for name in (pictures.class_names[0], *titles)]
    figure = canvas(side * len(names), side + 0.15 * (1 + max(name.count("\n") for name in names)))
    first, *others = figure.subplots(1, len(names), squeeze=False)[0]
    show(first, image, names[0])
    for axes, method, name in zip(others, methods, names[1:], strict=True):
        show(axes, blend(image, pictures.heatmaps[pictures.methods.index(method), 0]), name)
    return figure
