"""The game as one offline page: pictures, plan and script in a single file."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from axiom_bench.errors import BenchError
from axiom_bench.report.game.pictures import centred_blob, data_uri, visible
from axiom_bench.report.game.plan import CHECKS_NEEDED, FLOOR, FLOOR_TITLE, latin_square, method_and_class
from axiom_bench.report.page import inlining
from axiom_bench.report.page.templating import render

MAX_BYTES = 10_000_000
STYLES = ("page.css", "game.css")
FIRST_SCRIPT, SCRIPT = "theme.js", "game.js"

Class = tuple[int, str]  # index and readable name


@dataclass(frozen=True)
class TwoClassImage:
    """An image with exactly two classes. pixels: (H, W, 3). heatmaps: {method: (2, H, W)}, one for each class."""

    image_id: str
    classes: tuple[Class, Class]
    pixels: NDArray[np.uint8]
    heatmaps: Mapping[str, NDArray[np.floating]]


@dataclass(frozen=True)
class WholeImage:
    """An image that is shown whole, as an attention check. shown: a class of it. other: one that it doesn't have."""

    image_id: str
    shown: Class
    other: Class
    pixels: NDArray[np.uint8]


@dataclass(frozen=True)
class Game:
    """titles: {method: as people read it}, of all methods that the images have maps of. setting: where the maps come
    from, {"model", "layer", "data", "weights"}. example: a picture for the first screen."""

    images: Sequence[TwoClassImage]
    checks: Sequence[WholeImage]
    titles: Mapping[str, str]
    setting: Mapping[str, str]
    share: float
    seed: int
    example: NDArray[np.uint8] | None = None


def page(game: Game) -> str:
    """The whole page. Raises BenchError where it would have more than MAX_BYTES."""
    first, script = inlining.script(FIRST_SCRIPT), inlining.script(SCRIPT)
    text = render(
        "game.html.j2",
        data=inlining.as_json(page_data(game)),
        example=None if game.example is None else data_uri(game.example),
        percent=round(100 * game.share),
        styles=[inlining.style(name) for name in STYLES],
        first_script=first,
        script=script,
        policy=inlining.policy([first, script]),
    )
    size = len(text.encode())
    if size > MAX_BYTES:
        fitting = len(game.images) * MAX_BYTES // size
        raise BenchError(
            f"The game would have {size / 1e6:.1f} MB, more than the {MAX_BYTES / 1e6:.0f} that a page may have: "
            f"choose fewer images (--images {fitting}) or fewer methods (--methods A,B)."
        )
    return str(text)


def page_data(game: Game) -> dict[str, Any]:
    """What the script reads. `id` is a hash of all the rest, so that answers can't be taken for another game's."""
    methods = [*game.titles, FLOOR]
    cells = 2 * len(methods)
    data = {
        "setting": dict(game.setting),
        "share": game.share,
        "seed": game.seed,
        "checks_needed": CHECKS_NEEDED,
        "methods": [{"name": name, "title": game.titles.get(name, FLOOR_TITLE)} for name in methods],
        "square": latin_square(len(game.images), cells, game.seed).tolist(),
        "images": [_image_data(image, methods, game.share) for image in game.images],
        "checks": [_check_data(check) for check in game.checks],
    }
    return {"id": hashlib.sha256(inlining.as_json(data).encode()).hexdigest()[:12], **data}


def _image_data(image: TwoClassImage, methods: Sequence[str], share: float) -> dict[str, Any]:
    """pictures: by cell, see `method_and_class`."""
    blob = centred_blob(*image.pixels.shape[:2])
    heat = {**image.heatmaps, FLOOR: np.stack([blob, blob])}
    pictures = []
    for cell in range(2 * len(methods)):
        method, of_class = method_and_class(cell, len(methods))
        pictures.append(data_uri(image.pixels, visible(heat[methods[method]][of_class], share)))
    return {"image": image.image_id, "classes": [_class(entry) for entry in image.classes], "pictures": pictures}


def _check_data(check: WholeImage) -> dict[str, Any]:
    classes = [_class(check.shown), _class(check.other)]
    return {"image": check.image_id, "classes": classes, "picture": data_uri(check.pixels)}


def _class(entry: Class) -> dict[str, Any]:
    return {"index": entry[0], "name": entry[1]}
