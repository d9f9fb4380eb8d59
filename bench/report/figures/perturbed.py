"""Fig 4(b) of the paper: an image, its map, and the image perturbed along the map, with the confidence drop."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from matplotlib.figure import Figure

from axiom_bench.explanation.overlay import blend
from axiom_bench.report.figures.drawing import Drawing, LeftOut, canvas
from axiom_bench.report.figures.pictures import Pictures, load, show, wrapped
from axiom_bench.report.run_folder import RunFolder

TITLE = "Perturbed along the map"
MAX_IMAGES = 4
SIDE = 1.7
MINUS = "\N{MINUS SIGN}"


def draw(run: RunFolder) -> Iterator[Drawing | LeftOut]:
    """One figure for each model, of the method that `config.report.figures.perturbed` names."""
    method = run.options.figures.perturbed
    if not method:
        yield LeftOut(TITLE, "config.report.figures.perturbed names no method.")
        return
    drawn = False
    for pictures in load(run):
        if method in pictures.methods and len(pictures.images):
            drawn = True
            yield _drawing(pictures, method)
    if not drawn:
        yield LeftOut(TITLE, f"The run stored no pictures of {method}.")


def _drawing(pictures: Pictures, method: str) -> Drawing:
    images = ", ".join(dict.fromkeys(pictures.image_ids[:MAX_IMAGES]))
    caption = (
        f"{pictures.model} at {pictures.layer}: image, map of {method}, and the image with what the map highlights "
        f"perturbed; {_meaning(pictures)}. Images: {images}."
    )
    name = f"perturbed_{pictures.slug}"
    return Drawing(name, f"{TITLE}, {pictures.model}", caption, partial(_plot, pictures, method))


def _plot(pictures: Pictures, method: str) -> Figure:
    m, count = pictures.methods.index(method), min(MAX_IMAGES, len(pictures.images))
    figure = canvas(3 * SIDE + 1.3, count * (SIDE + 0.25) + 0.2)
    grid = figure.subplots(count, 3, squeeze=False)
    for i, (left, middle, right) in enumerate(grid):
        before, after = float(pictures.confidence[i]), float(pictures.confidence_perturbed[m, i])
        show(left, pictures.images[i], f"{_word(pictures)} {before:.2f}", wrapped(pictures.class_names[i]))
        show(middle, blend(pictures.images[i], pictures.heatmaps[m, i]), method)
        drop = f"{_word(pictures)} {after:.2f}, drop {before - after:.2f}".replace("-", MINUS)
        show(right, pictures.perturbed[m, i], drop)
    return figure


def _meaning(pictures: Pictures) -> str:
    of_class = pictures.confidence_of == "probability"
    return "confidence is the explained class's probability" if of_class else "score is what is explained"


def _word(pictures: Pictures) -> str:
    return "confidence" if pictures.confidence_of == "probability" else "score"
