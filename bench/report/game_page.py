"""The game as one offline page: pictures, script and the plan of who sees what, a Latin square over
methods and classes.
"""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from axiom_bench.errors import BenchError
from axiom_bench.report.page import html

MAX_BYTES = 10_000_000
SHARE = 0.2  # of an image's pixels that stay visible
CHECKS = 6  # whole pictures among the others
CHECKS_NEEDED = 5  # of them that a player must name correctly for the other answers to count
FLOOR = "centred_blob"  # a condition of the game's own: it shows the middle, whatever the class
FLOOR_TITLE = "Centred blob"
DISPLAY_SIDE = 320  # small images are enlarged to about this many pixels
QUALITY = 80  # of WebP
BLOB_WIDTH = 0.25  # standard deviation of the centred blob, as a share of each side

Class = tuple[int, str]  # index and readable name
Heat = NDArray[np.floating]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Picture:
    """An image of the game. classes: the two that a player chooses from; of a picture that is shown
    whole, as an attention check, the first is right. pixels: (H, W, 3). heatmaps: {method: (2, H,
    W)}, one for each class.
    """

    image_id: str
    classes: tuple[Class, Class]
    pixels: NDArray[np.uint8]
    heatmaps: Mapping[str, Heat] = field(default_factory=dict)


@dataclass(frozen=True)
class Game:
    """titles: {method: as people read it}, of all methods that the images have maps of. setting:
    where the maps come from, {"model", "layer", "data", "weights"}.
    """

    images: Sequence[Picture]
    checks: Sequence[Picture]
    titles: Mapping[str, str]
    setting: Mapping[str, str]
    seed: int


def page(game: Game) -> str:
    """The whole page. Raises BenchError where it would have more than MAX_BYTES."""
    first, script = html.script("theme.js"), html.script("game.js")
    styles = [html.style(name) for name in ("page.css", "game.css")]
    look = {
        "styles": styles,
        "first_script": first,
        "script": script,
        "policy": html.policy([first, script]),
    }
    text = html.render(
        "game.html.j2", data=html.as_json(page_data(game)), percent=round(100 * SHARE), **look
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


def page_data(game: Game) -> dict[str, Any]:
    """What the script reads. `id` is a hash of all the rest, so that answers can't be taken for
    another game's.
    """
    titles = {**game.titles, FLOOR: FLOOR_TITLE}
    cells = 2 * len(titles)

    def about(image: Picture) -> dict[str, Any]:
        return {
            "image": image.image_id,
            "classes": [{"index": index, "name": name} for index, name in image.classes],
        }

    def pictures(image: Picture) -> Iterator[str]:
        blob = centred_blob(*image.pixels.shape[:2])
        of_method = {**image.heatmaps, FLOOR: np.stack([blob, blob])}
        heat = [of_method[name] for name in titles]
        for cell in range(cells):
            method, of_class = method_and_class(cell, len(titles))
            yield data_uri(image.pixels, visible(heat[method][of_class], SHARE))

    data = {
        "setting": dict(game.setting),
        "share": SHARE,
        "seed": game.seed,
        "checks_needed": CHECKS_NEEDED,
        "methods": [{"name": name, "title": title} for name, title in titles.items()],
        "square": latin_square(len(game.images), cells, game.seed).tolist(),
        "images": [{**about(image), "pictures": list(pictures(image))} for image in game.images],
        "checks": [{**about(check), "picture": data_uri(check.pixels)} for check in game.checks],
    }
    return {"id": hashlib.sha256(html.as_json(data).encode()).hexdigest()[:12], **data}


def latin_square(images: int, cells: int, seed: int) -> NDArray[np.int64]:
    """(cells, images): the cell that a player of row `number % cells` sees of each image.

    A cell is a method and a class, see `method_and_class`. In each column every cell stands once,
    so `cells` players with consecutive numbers see each image in every cell. In each row the cells
    are balanced, and so are the methods: their counts differ by 1 at most. seed: shuffles rows and
    columns, which keeps both.
    """
    generator = np.random.default_rng(seed)
    rows, columns = generator.permutation(cells), generator.permutation(images)
    square: NDArray[np.int64] = (rows[:, None] + columns[None, :]) % cells
    return square


def method_and_class(cell: int, methods: int) -> tuple[int, int]:
    """(index of the method, 0 or 1 for the image's class) of a cell; cells that follow each other
    differ in method.
    """
    return cell % methods, cell // methods


def visible(heat: Heat, share: float) -> Mask:
    """The `share` of the pixels with the highest heat: (H, W) -> (H, W).

    Heat is rounded to 1e-6 first, and of equals the first pixel wins. A pixel without heat stays
    hidden, so a map that is zero, or not finite, shows less or nothing.
    """
    rounded = np.nan_to_num(heat, nan=0.0, posinf=0.0, neginf=0.0).round(6).ravel()
    highest = np.argsort(-rounded, kind="stable")[: round(share * rounded.size)]
    mask = np.zeros(rounded.size, dtype=bool)
    mask[highest] = rounded[highest] > 0
    return mask.reshape(heat.shape)


def centred_blob(height: int, width: int) -> Heat:
    """The heat of the floor: a bell curve in the middle, (height, width)."""
    y, x = (np.linspace(-0.5, 0.5, size) / BLOB_WIDTH for size in (height, width))
    heat: Heat = np.exp(-(y[:, None] ** 2 + x[None, :] ** 2) / 2)
    return heat


def data_uri(pixels: NDArray[np.uint8], mask: Mask | None = None) -> str:
    """A picture (H, W, 3) as WebP, with what the mask hides transparent; small ones are
    enlarged.
    """
    picture = Image.fromarray(pixels)
    factor = max(1, round(DISPLAY_SIDE / max(picture.size)))
    size = (factor * picture.width, factor * picture.height)
    picture = picture.resize(size, Image.Resampling.LANCZOS)
    if mask is not None:
        smooth = Image.fromarray(mask.astype(np.uint8) * 255).resize(
            size, Image.Resampling.BILINEAR
        )
        picture.putalpha(smooth.point(lambda value: 255 if value >= 128 else 0))
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=QUALITY, method=4)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"
