"""Figures of the pictures that a run stored: Figs 1, 4(b) and 5 of the paper."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure as Canvas
from numpy.typing import NDArray

from axiom_bench.errors import BenchError
from axiom_bench.explanation.overlay import blend
from axiom_bench.records import store as stored_pictures
from axiom_bench.records.files import safe_name
from axiom_bench.report.charts.drawing import LETTER, SMALL, Figure, LeftOut, canvas, wrapped
from axiom_bench.report.options import HEIGHT, PAGE, options_of
from axiom_bench.statistics.run_folder import RunFolder

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Pictures:
    """N images of one model, M methods. images (N, H, W, 3); heatmaps (M, N, H, W) in [0, 1];
    perturbed (M, N, H, W, 3); confidence (N,), confidence_perturbed (M, N). Confidence is the
    explained class's probability, or where confidence_of is "score" the explained score, which
    isn't one.
    """

    model: str
    layer: str
    images: Pixels
    image_ids: tuple[str, ...]
    class_names: tuple[str, ...]
    methods: tuple[str, ...]
    heatmaps: NDArray[np.floating[Any]]
    perturbed: Pixels
    confidence: NDArray[np.floating[Any]]
    confidence_perturbed: NDArray[np.floating[Any]]
    confidence_of: str


Drawing = Callable[[Pictures], tuple[str, Callable[[], Canvas]] | None]


def load(run: RunFolder) -> Iterator[Pictures]:
    """One model's pictures after the other. Raises BenchError for a file that can't be read."""
    for file in run.manifest.pictures:
        arrays = stored_pictures.read_arrays(run.path / file, run.manifest.sha256.get(file))
        try:
            values: dict[str, Any] = {field.name: arrays[field.name] for field in fields(Pictures)}
            values |= {
                name: tuple(map(str, values[name]))
                for name in ("image_ids", "class_names", "methods")
            }
            values |= {name: str(values[name]) for name in ("model", "layer", "confidence_of")}
            yield Pictures(**values | {"heatmaps": values["heatmaps"] / np.float32(255)})
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BenchError(
                f"The pictures {run.path / file} aren't a run's ({error}); run the same command "
                "again."
            ) from error


def _of_models(
    run: RunFolder, name: str, title: str, number: str, methods: Sequence[str], draw: Drawing
) -> Iterator[Figure | LeftOut]:
    """A figure for each model that stored pictures of images; else why there is none, and the
    setting that brings it. draw: the caption, and what draws the pictures; None where the model
    lacks the methods.
    """
    is_drawn = False
    for pictures in load(run):
        made = draw(pictures) if len(pictures.images) else None
        if made is not None:
            is_drawn = True
            caption, plot = made
            text = f"{pictures.model} at {pictures.layer}: {caption}"
            slug = safe_name(f"{pictures.model}-{pictures.layer}")
            yield Figure(f"{name}_{slug}", f"{title}, {pictures.model}", text, plot, number)
    if not is_drawn:
        names = ",".join(methods)
        reason = (
            f"No network of this run has the maps of {names}: add them with method=[...,{names}]."
        )
        if not run.manifest.pictures:
            reason = "The run stored no pictures: pictures.rows=6 stores those of six images."
        yield LeftOut(title, reason, number)


LABEL_GAP = 6  # points between a picture and the label on its left


def show(axes: Any, image: Pixels, title: str = "", label: str = "") -> None:
    """An image without ticks, with a title above it and a label on its left."""
    axes.imshow(image, interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    axes.set_axis_off()
    if title:
        axes.set_title(title, loc="center", y=1.0, fontsize=SMALL, fontweight="normal")
    if label:
        side = {
            "xycoords": "axes fraction",
            "textcoords": "offset points",
            "ha": "right",
            "va": "center",
        }
        axes.annotate(label, (0, 0.5), (-LABEL_GAP, 0), fontsize=SMALL, **side)


GRID_SIDE, LEAST_GRID_SIDE = 0.95, 0.52  # inches: of a map, at most and at least
GRID_NAME = 11  # letters of a class's name in one line
LINE = 0.125  # inches: the height of a line of text
GAP = 0.06  # between two maps, of a map's side


def draw_grid(run: RunFolder) -> Iterator[Figure | LeftOut]:
    """One figure for each model; `config.report.figures.grid` may choose the methods, else all are
    shown.
    """
    chosen = options_of(run).figures.grid

    def drawing(pictures: Pictures) -> tuple[str, Callable[[], Canvas]] | None:
        methods = [name for name in pictures.methods if not chosen or name in chosen]
        caption = (
            "each map, scaled to its maximum, over the grey image; beside a row its explained "
            f"class. Images: {', '.join(dict.fromkeys(pictures.image_ids))}."
        )
        titles = [run.metadata.method_title(method) for method in methods]
        return (caption, partial(_plot_grid, pictures, methods, titles)) if methods else None

    return _of_models(run, "maps", "Maps side by side", "Fig 5", chosen or (), drawing)


class Grid(NamedTuple):
    """bands: indices of the methods beside each other, in rows below each other. side: of a map, in
    inches. images: how many of them there is room for on a page.
    """

    bands: tuple[tuple[int, ...], ...]
    side: float
    images: int


def grid(methods: int, images: int, width: float, title: float) -> Grid:
    """The fewest bands whose maps have LEAST_GRID_SIDE; then the largest maps of which a page holds
    all images, or the smallest and as many images as it holds. width, and title, the height above a
    band: in inches.
    """
    per_row = max(1, int(width / LEAST_GRID_SIDE) - 1)
    count = -(-methods // per_row)
    per_row = -(-methods // count)
    bands = tuple(
        tuple(range(start, min(start + per_row, methods))) for start in range(0, methods, per_row)
    )
    room = HEIGHT / count - title
    side = min(GRID_SIDE, width / (per_row + 1), max(LEAST_GRID_SIDE, room / images))
    return Grid(bands, side, max(1, min(images, int(room / side + 1e-9))))


def mosaic(tiles: list[list[Pixels]], gap: int) -> Pixels:
    """Rows of pictures (H, W, 3) of one size as one picture, white between them."""
    edges = ((0, gap), (0, gap), (0, 0))
    rows = [np.hstack([np.pad(tile, edges, constant_values=255) for tile in row]) for row in tiles]
    picture: Pixels = np.vstack(rows)[:-gap, :-gap]
    return picture


def _plot_grid(pictures: Pictures, methods: Sequence[str], titles: Sequence[str]) -> Canvas:
    """A row for each image: itself, then the band's maps. One picture in one pair of axes: a pair
    of axes for each map took ten times as long.
    """
    label = GRID_NAME * LETTER + 0.1
    letters = int(LEAST_GRID_SIDE / LETTER)
    top = LINE * (1 + max(wrapped(title, letters).count("\n") for title in titles))
    drawn = grid(len(methods), len(pictures.images), PAGE - label, top)
    columns = 1 + len(drawn.bands[0])
    height, width = pictures.images.shape[1:3]
    gap = max(1, round(GAP * width))
    figure = canvas(
        drawn.side * columns + label, (drawn.side * drawn.images + top) * len(drawn.bands)
    )
    for part, band in zip(
        figure.subfigures(len(drawn.bands), 1, squeeze=False)[:, 0], drawn.bands, strict=True
    ):
        places = [pictures.methods.index(methods[i]) for i in band]
        images = pictures.images[: drawn.images]
        tiles = [
            [image, *(blend(image, pictures.heatmaps[m, i]) for m in places)]
            for i, image in enumerate(images)
        ]
        axes = part.subplots()
        show(axes, mosaic(tiles, gap))
        axes.set_anchor("W")
        axes.set_xlim(-0.5, columns * (width + gap) - gap - 0.5)
        names = [wrapped(titles[i], int(drawn.side / LETTER)) for i in band]
        for column, name in enumerate(["image", *names]):
            axes.text(
                column * (width + gap) + width / 2,
                -gap,
                name,
                ha="center",
                va="bottom",
                fontsize=SMALL,
            )
        for row, name in enumerate(pictures.class_names[: drawn.images]):
            place = row * (height + gap) + height / 2
            axes.text(
                -gap, place, wrapped(name, GRID_NAME), ha="right", va="center", fontsize=SMALL
            )
    return figure


PAIR_SIDE = 1.8  # inches, at most


def draw_pair(run: RunFolder) -> Iterator[Figure | LeftOut]:
    """One figure for each model, of the methods that `config.report.figures.pair` names, on the
    first image.
    """
    title, number = "Two methods on one image", "Fig 1"
    methods = options_of(run).figures.pair
    titles = [run.metadata.method_title(method) for method in methods]

    def drawing(pictures: Pictures) -> tuple[str, Callable[[], Canvas]] | None:
        if not set(methods) <= set(pictures.methods):
            return None
        return f"{' and '.join(titles)} on {pictures.image_ids[0]}.", partial(
            _plot_pair, pictures, methods, titles
        )

    if methods:
        return _of_models(run, "pair", title, number, methods, drawing)
    return iter(
        [LeftOut(title, "No methods are chosen: report.figures.pair=[METHOD,METHOD].", number)]
    )


def _plot_pair(pictures: Pictures, methods: Sequence[str], titles: Sequence[str]) -> Canvas:
    image = pictures.images[0]
    side = min(PAIR_SIDE, PAGE / (1 + len(methods)))
    letters = int(side / LETTER)
    names = [wrapped(name, letters) for name in (pictures.class_names[0], *titles)]
    figure = canvas(side * len(names), side + 0.15 * (1 + max(name.count("\n") for name in names)))
    first, *others = figure.subplots(1, len(names), squeeze=False)[0]
    show(first, image, names[0])
    for axes, method, name in zip(others, methods, names[1:], strict=True):
        show(axes, blend(image, pictures.heatmaps[pictures.methods.index(method), 0]), name)
    return figure


MAX_IMAGES = 4
PERTURBED_SIDE = 1.5  # inches, at most
PERTURBED_NAME = 10  # letters of a class's name in one line
MINUS = "\N{MINUS SIGN}"


def draw_perturbed(run: RunFolder) -> Iterator[Figure | LeftOut]:
    """One figure for each model, of the method that `config.report.figures.perturbed` names."""
    title, number = "Perturbed along the map", "Fig 4(b)"
    method = options_of(run).figures.perturbed
    if not method:
        return iter(
            [LeftOut(title, "No method is chosen: report.figures.perturbed=METHOD.", number)]
        )
    shown = run.metadata.method_title(method)

    def drawing(pictures: Pictures) -> tuple[str, Callable[[], Canvas]] | None:
        is_probability = pictures.confidence_of == "probability"
        meaning = (
            "confidence is the explained class's probability"
            if is_probability
            else "score is what is explained"
        )
        caption = (
            f"image, map of {shown}, and the image with what the map highlights perturbed; "
            f"{meaning}. Images: {', '.join(dict.fromkeys(pictures.image_ids[:MAX_IMAGES]))}."
        )
        is_there = method in pictures.methods
        return (caption, partial(_plot_perturbed, pictures, method, shown)) if is_there else None

    return _of_models(run, "perturbed", title, number, [method], drawing)


def _plot_perturbed(pictures: Pictures, method: str, title: str) -> Canvas:
    m, count = pictures.methods.index(method), min(MAX_IMAGES, len(pictures.images))
    label = PERTURBED_NAME * LETTER + 0.15
    side = min(PERTURBED_SIDE, (PAGE - label) / 3)
    letters = int(1.1 * side / LETTER)  # small ones
    titles = (
        0.15 if letters > len("confidence 0.00, drop 0.00") else 0.27
    )  # inches: one line above a picture, or two
    figure = canvas(3 * side + label, count * (side + titles + 0.1))
    word = "confidence" if pictures.confidence_of == "probability" else "score"
    for i, (left, middle, right) in enumerate(figure.subplots(count, 3, squeeze=False)):
        image, name = pictures.images[i], wrapped(pictures.class_names[i], PERTURBED_NAME)
        before, after = float(pictures.confidence[i]), float(pictures.confidence_perturbed[m, i])
        show(left, image, wrapped(f"{word} {before:.2f}", letters), name)
        show(middle, blend(image, pictures.heatmaps[m, i]), wrapped(title, letters))
        drop = round(before - after, 2) or 0.0  # -0.0 has a sign, too
        caption = f"{word} {after:.2f}, drop {drop:.2f}".replace("-", MINUS)
        show(right, pictures.perturbed[m, i], wrapped(caption, letters))
    return figure
