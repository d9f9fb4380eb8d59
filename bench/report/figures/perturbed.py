"""Fig 4(b) of the paper: an image, its map, and the image perturbed along the map, with the confidence drop."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from matplotlib.figure import Figure

from axiom_bench.explanation.overlay import blend
from axiom_bench.report.figures.drawing import LETTER, Drawing, LeftOut, canvas, wrapped
from axiom_bench.report.figures.pictures import Pictures, load, no_pictures, show
from axiom_bench.report.options import options_of
from axiom_bench.statistics.run_folder import RunFolder

TITLE = "Perturbed along the map"
NUMBER = "Fig 4(b)"
MAX_IMAGES = 4
SIDE = 1.5  # inches, at most
NAME = 10  # letters of a class's name in one line
MINUS = "\N{MINUS SIGN}"


def draw(run: RunFolder) -> Iterator[Drawing | LeftOut]:
    """One figure for each model, of the method that `config.report.figures.perturbed` names."""
    method = options_of(run).figures.perturbed
    if not method:
        yield LeftOut(TITLE, "No method is chosen: report.figures.perturbed=METHOD.", NUMBER)
        return
    drawn = False
    for pictures in load(run):
        if method in pictures.methods and len(pictures.images):
            drawn = True
            yield _drawing(run, pictures, method)
    if not drawn:
        yield LeftOut(TITLE, no_pictures(run, [method]), NUMBER)


def _drawing(run: RunFolder, pictures: Pictures, method: str) -> Drawing:
    images, title = ", ".join(dict.fromkeys(pictures.image_ids[:MAX_IMAGES])), run.metadata.method_title(method)
    caption = (
        f"{pictures.model} at {pictures.layer}: image, map of {title}, and the image with what the map highlights "
        f"perturbed; {_meaning(pictures)}. Images: {images}."
    )
    name, plot = f"perturbed_{pictures.slug}", partial(_plot, pictures, method, title)
    return Drawing(name, f"{TITLE}, {pictures.model}", caption, plot, NUMBER)


def _plot(pictures: Pictures, method: str, title: str, width: float) -> Figure:
    m, count = pictures.methods.index(method), min(MAX_IMAGES, len(pictures.images))
    label = NAME * LETTER + 0.15
    side = min(SIDE, (width - label) / 3)
    letters = int(1.1 * side / LETTER)  # small ones
    titles = 0.15 if letters > len("confidence 0.00, drop 0.00") else 0.27  # inches: one line above a picture, or two
    figure = canvas(3 * side + label, count * (side + titles + 0.1))
    grid = figure.subplots(count, 3, squeeze=False)
    for i, (left, middle, right) in enumerate(grid):
        before, after = float(pictures.confidence[i]), float(pictures.confidence_perturbed[m, i])
        show(
            left,
            pictures.images[i],
            wrapped(f"{_word(pictures)} {before:.2f}", letters),
            wrapped(pictures.class_names[i], NAME),
        )
        show(middle, blend(pictures.images[i], pictures.heatmaps[m, i]), wrapped(title, letters))
        drop = f"{_word(pictures)} {after:.2f}, drop {before - after:.2f}".replace("-", MINUS)
        show(right, pictures.perturbed[m, i], wrapped(drop, letters))
    return figure


def _meaning(pictures: Pictures) -> str:
    of_class = pictures.confidence_of == "probability"
    return "confidence is the explained class's probability" if of_class else "score is what is explained"


def _word(pictures: Pictures) -> str:
    return "confidence" if pictures.confidence_of == "probability" else "score"
