"""The game as one offline page: pictures, script and the plan of which player sees which picture, a
Latin square over methods and classes.
"""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from axiom_bench.errors import BenchError
from axiom_bench.report.page import html

MAX_BYTES = 10_000_000
SHARE = 0.2  # of an image's pixels that stay visible
CHECKS = 6  # whole pictures among the others
CHECKS_NEEDED = 5  # of them that a player must name correctly for the other answers to count
# A condition of the game's own, the floor for all methods: it shows the middle for every class.
FLOOR = "centred_blob"
FLOOR_TITLE = "Centred blob"
DISPLAY_SIDE = 320  # small images are enlarged to about this many pixels
QUALITY = 80  # of WebP
BLOB_WIDTH = 0.25  # standard deviation of the centred blob, as a share of each side

Class = tuple[int, str]  # index and readable name
Heat = NDArray[np.floating]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Picture:
    """An image of the game, or an attention check, which is shown whole."""

    image_id: str
    classes: tuple[Class, Class]  # a player chooses from these; of a check, the first is right
    pixels: NDArray[np.uint8]  # (H, W, 3)
    # {method: (2, H, W)}, one heatmap for each class
    heatmaps: Mapping[str, Heat] = field(default_factory=dict)


@dataclass(frozen=True)
class Game:
    """The images and methods of a game."""

    images: Sequence[Picture]
    checks: Sequence[Picture]
    titles: Mapping[str, str]  # {method: its title}, of all methods that the images have maps of
    setting: Mapping[str, str]  # the source of the maps: {"model", "layer", "data", "weights"}
    seed: int


def page(game: Game) -> str:
    """Return the whole page as HTML. Raise BenchError if it would have more than MAX_BYTES."""
    first_script = html.script("theme.js")
    script = html.script("game.js")
    text = html.render(
        "game.html.j2",
        data=html.as_json(page_data(game)),
        percent=round(100 * SHARE),
        styles=[html.style(name) for name in ("page.css", "game.css")],
        first_script=first_script,
        script=script,
        policy=html.policy([first_script, script]),
    )
    size = len(text.encode())
    if size > MAX_BYTES:
        fitting = len(game.images) * MAX_BYTES // size
        raise BenchError(
            f"The game would have {size / 1e6:.1f} MB, more than the {MAX_BYTES / 1e6:.0f} that a "
            f"page may have: choose fewer images (--images {fitting}) or fewer methods (--methods "
            "A,B)."
        )
    return str(text)


def page_data(game: Game) -> dict[str, object]:
    """Return the data that the script reads. "id" is a hash of all other data, so that answers
    can't be counted for another game.
    """
    titles = {**game.titles, FLOOR: FLOOR_TITLE}
    num_cells = 2 * len(titles)
    images = []
    for image in game.images:
        pictures = list(_masked_pictures(image, list(titles)))
        images.append({**_labels(image), "pictures": pictures})
    checks = []
    for check in game.checks:
        checks.append({**_labels(check), "picture": data_uri(check.pixels)})
    data = {
        "setting": dict(game.setting),
        "share": SHARE,
        "seed": game.seed,
        "checks_needed": CHECKS_NEEDED,
        "methods": [{"name": name, "title": title} for name, title in titles.items()],
        "square": latin_square(len(game.images), num_cells, game.seed).tolist(),
        "images": images,
        "checks": checks,
    }
    return {"id": hashlib.sha256(html.as_json(data).encode()).hexdigest()[:12], **data}


def _labels(image: Picture) -> dict[str, object]:
    """Return an image's id and its two classes."""
    classes = [{"index": index, "name": name} for index, name in image.classes]
    return {"image": image.image_id, "classes": classes}


def _masked_pictures(image: Picture, methods: Sequence[str]) -> Iterator[str]:
    """Yield the image of each cell, which shows only the pixels with the highest heat."""
    blob = centred_blob(*image.pixels.shape[:2])
    heatmaps = {**image.heatmaps, FLOOR: np.stack([blob, blob])}
    for cell in range(2 * len(methods)):
        method_index, class_index = method_and_class(cell, len(methods))
        heat = heatmaps[methods[method_index]][class_index]
        yield data_uri(image.pixels, visible(heat, SHARE))


def latin_square(images: int, cells: int, seed: int) -> NDArray[np.int64]:
    """Return (cells, images): the cell that a player of row `number % cells` sees of each image.

    A cell is a method and a class, see `method_and_class`. Each column has every cell once, so
    `cells` players with consecutive numbers see each image in every cell. In each row the cells are
    balanced, and so are the methods: their counts differ by 1 at most.

    Args:
        images: The number of images.
        cells: The number of cells.
        seed: Shuffles rows and columns, which keeps both properties.
    """
    generator = np.random.default_rng(seed)
    rows = generator.permutation(cells)
    columns = generator.permutation(images)
    square: NDArray[np.int64] = (rows[:, None] + columns[None, :]) % cells
    return square


def method_and_class(cell: int, methods: int) -> tuple[int, int]:
    """Return (index of the method, 0 or 1 for the image's class) of a cell. Consecutive cells
    differ in method.
    """
    return cell % methods, cell // methods


def visible(heat: Heat, share: float) -> Mask:
    """Return a mask of the `share` of the pixels with the highest heat: (H, W) -> (H, W).

    Heat is rounded to 1e-6 first, and of equal pixels the first wins. A pixel without heat stays
    hidden, so a map that is zero, or not finite, shows less or nothing.
    """
    rounded = np.nan_to_num(heat, nan=0.0, posinf=0.0, neginf=0.0).round(6).ravel()
    highest = np.argsort(-rounded, kind="stable")[: round(share * rounded.size)]
    mask = np.zeros(rounded.size, dtype=bool)
    mask[highest] = rounded[highest] > 0
    return mask.reshape(heat.shape)


def centred_blob(height: int, width: int) -> Heat:
    """Return the heat of the floor: a bell curve in the middle, (height, width)."""
    y, x = (np.linspace(-0.5, 0.5, size) / BLOB_WIDTH for size in (height, width))
    heat: Heat = np.exp(-(y[:, None] ** 2 + x[None, :] ** 2) / 2)
    return heat


def data_uri(pixels: NDArray[np.uint8], mask: Mask | None = None) -> str:
    """Return a picture (H, W, 3) as WebP. Pixels that the mask hides are transparent, and a small
    picture is enlarged.
    """
    picture = Image.fromarray(pixels)
    factor = max(1, round(DISPLAY_SIDE / max(picture.size)))
    size = (factor * picture.width, factor * picture.height)
    picture = picture.resize(size, Image.Resampling.LANCZOS)
    if mask is not None:
        mask_picture = Image.fromarray(mask.astype(np.uint8) * 255)
        smooth = mask_picture.resize(size, Image.Resampling.BILINEAR)
        picture.putalpha(smooth.point(lambda value: 255 if value >= 128 else 0))
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=QUALITY, method=4)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"
