"""Fig 5 of the paper: the maps of all methods side by side, a row for each image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from axiom_bench.explanation.overlay import blend
from axiom_bench.report.figures.drawing import LETTER, SMALL, Drawing, LeftOut, canvas, wrapped
from axiom_bench.report.figures.pictures import Pictures, Pixels, load, no_pictures, show
from axiom_bench.report.options import options_of
from axiom_bench.report.sizes import HEIGHT
from axiom_bench.statistics.run_folder import RunFolder

TITLE = "Maps side by side"
NUMBER = "Fig 5"
SIDE, LEAST_SIDE = 0.95, 0.52  # inches: of a map, at most and at least
NAME = 11  # letters of a class's name in one line
LINE = 0.125  # inches: the height of a line of text
GAP = 0.06  # between two maps, of a map's side


def draw(run: RunFolder) -> Iterator[Drawing | LeftOut]:
    """One figure for each model; `config.report.figures.grid` may choose the methods, else all are shown."""
    drawn = False
    for pictures in load(run):
        chosen = options_of(run).figures.grid or pictures.methods
        methods = [name for name in pictures.methods if name in chosen]
        if methods and len(pictures.images):
            drawn = True
            yield _drawing(run, pictures, methods)
    if not drawn:
        yield LeftOut(TITLE, no_pictures(run, options_of(run).figures.grid or ()), NUMBER)


@dataclass(frozen=True)
class Grid:
    """bands: indices of the methods beside each other, in rows below each other. side: of a map, in inches. images:
    how many of them there is room for on a page."""

    bands: tuple[tuple[int, ...], ...]
    side: float
    images: int


def grid(methods: int, images: int, width: float, title: float) -> Grid:
    """The fewest bands whose maps have LEAST_SIDE; then the largest maps of which a page holds all images, or the
    smallest and as many images as it holds. width, and title, the height above a band: in inches."""
    beside = max(1, int(width / LEAST_SIDE) - 1)
    count = -(-methods // beside)
    beside = -(-methods // count)
    bands = tuple(tuple(range(start, min(start + beside, methods))) for start in range(0, methods, beside))
    room = HEIGHT / count - title
    side = min(SIDE, width / (beside + 1), max(LEAST_SIDE, room / images))
    return Grid(bands, side, max(1, min(images, int(room / side + 1e-9))))


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


def _fill(axes: Any, pictures: Pictures, titles: Sequence[str], band: Sequence[int], drawn: Grid) -> None:
    """A row for each image: itself, then the band's maps. One picture in one pair of axes: a pair of axes for each
    map took ten times as long. titles: of the methods. band: their places in `pictures`."""
    tiles = [
        [image, *(blend(image, pictures.heatmaps[place, i]) for place in band)]
        for i, image in enumerate(pictures.images[: drawn.images])
    ]
    height, width = pictures.images.shape[1:3]
    gap = max(1, round(GAP * width))
    show(axes, mosaic(tiles, gap))
    axes.set_anchor("W")
    axes.set_xlim(-0.5, (len(drawn.bands[0]) + 1) * (width + gap) - gap - 0.5)
    for column, title in enumerate(["image", *titles]):
        axes.text(column * (width + gap) + width / 2, -gap, title, ha="center", va="bottom", fontsize=SMALL)
    for row, name in enumerate(pictures.class_names[: drawn.images]):
        place = row * (height + gap) + height / 2
        axes.text(-gap, place, wrapped(name, NAME), ha="right", va="center", fontsize=SMALL)


def _drawing(run: RunFolder, pictures: Pictures, methods: list[str]) -> Drawing:
    caption = (
        f"{pictures.model} at {pictures.layer}: each map, scaled to its maximum, over the grey image; beside a row its "
        f"explained class. Images: {', '.join(dict.fromkeys(pictures.image_ids))}."
    )
    plot = partial(_plot, pictures, methods, [run.metadata.method_title(method) for method in methods])
    return Drawing(f"maps_{pictures.slug}", f"{TITLE}, {pictures.model}", caption, plot, NUMBER)


def _plot(pictures: Pictures, methods: Sequence[str], titles: Sequence[str], width: float) -> Figure:
    label = NAME * LETTER + 0.1
    letters = int(LEAST_SIDE / LETTER)
    top = LINE * (1 + max(wrapped(title, letters).count("\n") for title in titles))
    drawn = grid(len(methods), len(pictures.images), width - label, top)
    names = [wrapped(title, int(drawn.side / LETTER)) for title in titles]
    height = drawn.side * drawn.images + top
    figure = canvas(drawn.side * (1 + len(drawn.bands[0])) + label, height * len(drawn.bands))
    parts = figure.subfigures(len(drawn.bands), 1, squeeze=False)[:, 0]
    for part, band in zip(parts, drawn.bands, strict=True):
        places = [pictures.methods.index(methods[i]) for i in band]
        _fill(part.subplots(), pictures, [names[i] for i in band], places, drawn)
    return figure
