"""Draw figures of the pictures that a run stored: images, their maps, and perturbed images."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from numpy.typing import NDArray

from axiom_bench.errors import BenchError
from axiom_bench.explanation.overlay import blend
from axiom_bench.records import store as stored_pictures
from axiom_bench.records.files import safe_name
from axiom_bench.report.charts.drawing import LETTER, SMALL, Figure, LeftOut, canvas, wrap_name
from axiom_bench.report.options import HEIGHT, PAGE, options_of
from axiom_bench.statistics.run_folder import RunFolder

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Pictures:
    """The stored pictures of N images and M methods for one model.

    Attributes:
        model: The model's name.
        layer: The target layer.
        images: The images, (N, H, W, 3).
        image_ids: The ids of the images.
        class_names: The explained class of each image.
        methods: The methods.
        heatmaps: The heatmaps, (M, N, H, W), in [0, 1].
        perturbed: The perturbed images, (M, N, H, W, 3), or (M, 0) if none are stored.
        confidence: The confidence of each image, (N,).
        confidence_perturbed: The confidence of the perturbed images, (M, N) or (M, 0).
        confidence_of: "probability" if confidence is the explained class's probability, "score" if
            it is the explained score, which isn't a probability.
    """

    model: str
    layer: str
    images: Pixels
    image_ids: tuple[str, ...]
    class_names: tuple[str, ...]
    methods: tuple[str, ...]
    heatmaps: NDArray[np.floating]
    perturbed: Pixels
    confidence: NDArray[np.floating]
    confidence_perturbed: NDArray[np.floating]
    confidence_of: str


Drawing = Callable[[Pictures], tuple[str, Callable[[], Canvas]] | None]


def load(run: RunFolder) -> Iterator[Pictures]:
    """Yield one model's pictures after the other.

    Raises:
        BenchError: If a file can't be read.
    """
    for file in run.manifest.pictures:
        arrays = stored_pictures.read_arrays(run.path / file, run.manifest.sha256.get(file))
        try:  # a stranger's file may lack an array, or have one of another kind
            shown = _shown_methods(run, arrays["methods"])
            pictures = Pictures(
                model=str(arrays["model"]),
                layer=str(arrays["layer"]),
                images=arrays["images"],
                image_ids=tuple(map(str, arrays["image_ids"])),
                class_names=tuple(map(str, arrays["class_names"])),
                methods=tuple(str(arrays["methods"][number]) for number in shown),
                heatmaps=arrays["heatmaps"][shown] / np.float32(255),
                perturbed=arrays["perturbed"][shown],
                confidence=arrays["confidence"],
                confidence_perturbed=arrays["confidence_perturbed"][shown],
                confidence_of=str(arrays["confidence_of"]),
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BenchError(
                f"The pictures {run.path / file} lack an array, or have one of another kind "
                f"({error}); delete this file and run the same command again."
            ) from error
        yield pictures


def _shown_methods(run: RunFolder, names: NDArray[np.str_]) -> list[int]:
    """Return the numbers of the methods that the report shows, in its order."""
    order = [*run.manifest.methods]
    numbers = {}
    for number, name in enumerate(map(str, names)):
        if name not in run.view.left_out:
            numbers[number] = order.index(name) if name in order else len(order)
    return sorted(numbers, key=lambda number: numbers[number])


def _figures_by_model(
    run: RunFolder,
    name: str,
    title: str,
    methods: Sequence[str],
    draw: Drawing,
) -> Iterator[Figure | LeftOut]:
    """Yield a figure for each model that stored pictures, or the reason if there is none.

    Args:
        run: The run.
        name: The first part of the files' names.
        title: The first part of the titles.
        methods: The methods that the reason lists.
        draw: Returns the caption and the function that draws the pictures of a model; None if the
            model lacks the methods.
    """
    is_drawn = False
    for pictures in load(run):
        drawing = draw(pictures) if len(pictures.images) else None
        if drawing is None:
            continue
        is_drawn = True
        caption, plot = drawing
        place = safe_name(f"{pictures.model}-{pictures.layer}")
        yield Figure(
            name=f"{name}_{place}",
            title=f"{title}, {pictures.model}",
            caption=f"{pictures.model} at {pictures.layer}: {caption}",
            plot=plot,
        )
    # a file has one network's pictures, so a reason is known only after all files
    if is_drawn:
        return
    left_out = [name for name in methods if name in run.view.left_out]
    if left_out:
        reason = f"report.methods leaves out {', '.join(left_out)}."
    elif run.manifest.pictures:
        names = ",".join(methods)
        reason = (
            f"No network of this run has the maps of {names}: add them with method=[...,{names}]."
        )
    else:
        reason = "The run stored no pictures: pictures.rows=6 stores those of six images."
    yield LeftOut(title, reason, f"{name}_")


def width_per_height(pictures: Pictures) -> float:
    """Return how many times as wide as high the pictures are; 1 for pictures that are higher."""
    height, width = pictures.images.shape[1:3]
    return max(1.0, float(width / height))


LABEL_GAP = 6  # points between a picture and the label on its left


def draw_image(axes: Axes, image: Pixels, title: str = "", label: str = "") -> None:
    """Draw an image without ticks, with a title above it and a label on its left."""
    axes.imshow(image, interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    axes.set_axis_off()
    if title:
        axes.set_title(title, loc="center", y=1.0, fontsize=SMALL, fontweight="normal")
    if label:
        axes.annotate(
            label,
            xy=(0, 0.5),
            xytext=(-LABEL_GAP, 0),
            fontsize=SMALL,
            xycoords="axes fraction",
            textcoords="offset points",
            ha="right",
            va="center",
        )


GRID_SIDE = 0.95  # inches: the maximum width of a map
LEAST_GRID_SIDE = 0.52  # inches: the minimum width of a map
GRID_NAME = 11  # letters of a class's name in one line
LINE = 0.125  # inches: the height of a line of text
GAP = 0.06  # the space between two maps, as a share of a map's width


def draw_grid(run: RunFolder) -> Iterator[Figure | LeftOut]:
    """Return a figure for each model, with a map per method and image.

    `config.report.figures.grid` may choose the methods. By default, all methods are shown.
    """
    chosen = options_of(run).figures.grid

    def draw(pictures: Pictures) -> tuple[str, Callable[[], Canvas]] | None:
        methods = [name for name in pictures.methods if not chosen or name in chosen]
        if not methods:
            return None
        caption = (
            "each map, scaled to its maximum, over the grey image; next to a row its explained "
            f"class. Images: {', '.join(dict.fromkeys(pictures.image_ids))}."
        )
        titles = [run.metadata.method_title(method) for method in methods]
        return caption, partial(_plot_grid, pictures, methods, titles)

    return _figures_by_model(run, "maps", "Maps side by side", chosen or (), draw)


class Grid(NamedTuple):
    """The layout of the maps of methods and images.

    Attributes:
        bands: The indices of the methods of each band. The methods of a band are next to each
            other, and bands are below each other.
        side: The width of a map in inches.
        images: The number of images for which a page has room.
    """

    bands: tuple[tuple[int, ...], ...]
    side: float
    images: int


def grid_layout(
    methods: int,
    images: int,
    width: float,
    title: float,
    ratio: float = 1.0,
) -> Grid:
    """Return the layout of the maps of methods and images.

    The layout has the fewest bands whose maps are at least LEAST_GRID_SIDE wide, or as large as
    such a square. Maps are as large as possible for all images on a page. If a page has no room for
    all images, maps have the minimum size, and only the first images are shown.

    Args:
        methods: The number of methods.
        images: The number of images.
        width: The width of a band in inches.
        title: The height of the titles above a band in inches.
        ratio: The width of a map divided by its height.
    """
    least = LEAST_GRID_SIDE * math.sqrt(ratio)
    per_row = max(1, int(width / least) - 1)  # one column is for the images themselves
    num_bands = -(-methods // per_row)
    per_row = -(-methods // num_bands)
    bands = tuple(
        tuple(range(start, min(start + per_row, methods))) for start in range(0, methods, per_row)
    )
    height = HEIGHT / num_bands - title
    side = min(GRID_SIDE * ratio, width / (per_row + 1), max(least, ratio * height / images))
    return Grid(bands, side, max(1, min(images, int(ratio * height / side + 1e-9))))


def join_tiles(tiles: list[list[Pixels]], gap: int) -> Pixels:
    """Return rows of pictures (H, W, 3) of one size as one picture, with white between them."""
    edges = ((0, gap), (0, gap), (0, 0))
    rows = [np.hstack([np.pad(tile, edges, constant_values=255) for tile in row]) for row in tiles]
    picture: Pixels = np.vstack(rows)[:-gap, :-gap]
    return picture


def _plot_grid(pictures: Pictures, methods: Sequence[str], titles: Sequence[str]) -> Canvas:
    """Draw a row per image in each band: the image, then the band's maps.

    A band is one picture in one pair of axes: a pair of axes for each map took ten times as long.
    """
    label = GRID_NAME * LETTER + 0.1
    letters = int(LEAST_GRID_SIDE / LETTER)
    title_height = LINE * (1 + max(wrap_name(title, letters).count("\n") for title in titles))
    ratio = width_per_height(pictures)
    layout = grid_layout(len(methods), len(pictures.images), PAGE - label, title_height, ratio)
    columns = 1 + len(layout.bands[0])
    height, width = pictures.images.shape[1:3]
    gap = max(1, round(GAP * width))
    band_height = layout.side / ratio * layout.images + title_height
    figure = canvas(layout.side * columns + label, band_height * len(layout.bands))
    subfigures = figure.subfigures(len(layout.bands), 1, squeeze=False)[:, 0]
    for subfigure, band in zip(subfigures, layout.bands, strict=True):
        indices = [pictures.methods.index(methods[number]) for number in band]
        tiles = []
        for i, image in enumerate(pictures.images[: layout.images]):
            tiles.append([image, *(blend(image, pictures.heatmaps[m, i]) for m in indices)])
        axes = subfigure.subplots()
        draw_image(axes, join_tiles(tiles, gap))
        axes.set_anchor("W")
        # Pixel centres are whole numbers. The limits are those of a full band, so that a shorter
        # last band has the same scale.
        axes.set_xlim(-0.5, columns * (width + gap) - gap - 0.5)
        names = [wrap_name(titles[number], int(layout.side / LETTER)) for number in band]
        for column, name in enumerate(["image", *names]):
            x = column * (width + gap) + width / 2
            axes.text(x, -gap, name, ha="center", va="bottom", fontsize=SMALL)
        for row, name in enumerate(pictures.class_names[: layout.images]):
            y = row * (height + gap) + height / 2
            axes.text(-gap, y, wrap_name(name, GRID_NAME), ha="right", va="center", fontsize=SMALL)
    return figure


PAIR_SIDE = 1.8  # inches: the maximum width of a map that is as high as wide


def draw_pair(run: RunFolder) -> Iterator[Figure | LeftOut]:
    """Return a figure for each model, with the maps of the first image by the methods of
    `config.report.figures.pair`.
    """
    title = "Two methods on one image"
    methods = options_of(run).figures.pair
    if not methods:
        reason = "No methods are chosen: report.figures.pair=[METHOD,METHOD]."
        return iter([LeftOut(title, reason, "pair_")])
    titles = [run.metadata.method_title(method) for method in methods]

    def draw(pictures: Pictures) -> tuple[str, Callable[[], Canvas]] | None:
        if not set(methods) <= set(pictures.methods):
            return None
        caption = f"{' and '.join(titles)} on {pictures.image_ids[0]}."
        return caption, partial(_plot_pair, pictures, methods, titles)

    return _figures_by_model(run, "pair", title, methods, draw)


def _plot_pair(pictures: Pictures, methods: Sequence[str], titles: Sequence[str]) -> Canvas:
    """Draw the first image and its maps next to each other."""
    image = pictures.images[0]
    ratio = width_per_height(pictures)
    side = min(PAIR_SIDE * ratio, PAGE / (1 + len(methods)))
    letters = int(side / LETTER)
    names = [wrap_name(name, letters) for name in (pictures.class_names[0], *titles)]
    most_lines = 1 + max(name.count("\n") for name in names)
    figure = canvas(side * len(names), side / ratio + 0.15 * most_lines)
    image_axes, *map_axes = figure.subplots(1, len(names), squeeze=False)[0]
    draw_image(image_axes, image, names[0])
    for axes, method, name in zip(map_axes, methods, names[1:], strict=True):
        draw_image(axes, blend(image, pictures.heatmaps[pictures.methods.index(method), 0]), name)
    return figure


MAX_IMAGES = 4
PERTURBED_SIDE = 1.5  # inches: the maximum width of a picture that is as high as wide
PERTURBED_NAME = 10  # letters of a class's name in one line
MINUS = "\N{MINUS SIGN}"


def draw_perturbed(run: RunFolder) -> Iterator[Figure | LeftOut]:
    """Return a figure for each model, with the images that are perturbed along the maps of the
    method `config.report.figures.perturbed`.
    """
    title = "Perturbed along the map"
    method = options_of(run).figures.perturbed
    reason = ""
    if not method:
        reason = "No method is chosen: report.figures.perturbed=METHOD."
    elif run.config.pictures.get("perturbation", "") is None:
        reason = "The run stored none: pictures.perturbation=confidence_drop stores them."
    if reason or not method:
        return iter([LeftOut(title, reason, "perturbed_")])
    method_title = run.metadata.method_title(method)

    def draw(pictures: Pictures) -> tuple[str, Callable[[], Canvas]] | None:
        if method not in pictures.methods:
            return None
        # a score needn't lie between 0 and 1, so the caption says which of the two is printed
        meaning = "score is what is explained"
        if pictures.confidence_of == "probability":
            meaning = "confidence is the explained class's probability"
        images = ", ".join(dict.fromkeys(pictures.image_ids[:MAX_IMAGES]))
        caption = (
            f"image, map of {method_title}, and the image with what the map highlights perturbed; "
            f"{meaning}. Images: {images}."
        )
        return caption, partial(_plot_perturbed, pictures, method, method_title)

    return _figures_by_model(run, "perturbed", title, [method], draw)


def _plot_perturbed(pictures: Pictures, method: str, method_title: str) -> Canvas:
    """Draw a row per image: the image, its map and the perturbed image."""
    m = pictures.methods.index(method)
    num_images = min(MAX_IMAGES, len(pictures.images))
    label = PERTURBED_NAME * LETTER + 0.15
    ratio = width_per_height(pictures)
    side = min(PERTURBED_SIDE * ratio, (PAGE - label) / 3)
    letters = int(1.1 * side / LETTER)  # most letters of a title are narrow
    # inches: a title has one line or two
    title_height = 0.15 if letters > len("confidence 0.00, drop 0.00") else 0.27
    figure = canvas(3 * side + label, num_images * (side / ratio + title_height + 0.1))
    word = "confidence" if pictures.confidence_of == "probability" else "score"
    for i, (left, middle, right) in enumerate(figure.subplots(num_images, 3, squeeze=False)):
        image = pictures.images[i]
        class_name = wrap_name(pictures.class_names[i], PERTURBED_NAME)
        confidence = float(pictures.confidence[i])
        perturbed = float(pictures.confidence_perturbed[m, i])
        drop = round(confidence - perturbed, 2) or 0.0  # -0.0 would print a sign
        result = f"{word} {perturbed:.2f}, drop {drop:.2f}".replace("-", MINUS)
        draw_image(left, image, wrap_name(f"{word} {confidence:.2f}", letters), class_name)
        draw_image(middle, blend(image, pictures.heatmaps[m, i]), wrap_name(method_title, letters))
        draw_image(right, pictures.perturbed[m, i], wrap_name(result, letters))
    return figure
