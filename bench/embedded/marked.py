"""Scenes with a spurious mark: a small pattern on the ground, in training wherever the scene shows
one class.

A marked scene is `scenes.draw`'s with a pattern painted on it, so the scene without the mark is
that scene, pixel by pixel. The mark's place and colours are drawn from random numbers of its own;
it lies on no digit.

Patterns: "tile", a chequerboard; "stripe", one bright colour, long and thin; "tag", a word in black
on white, always the same. Tag and stripe are spurious signals of Adebayo et al. 2022.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from axiom_bench.embedded import scenes

CLASS = 3  # the class that the mark goes with in training
PLACEMENTS = ("with_class", "other_classes", "absent")
TILE, CELL = 16, 4  # pixels: the side of the tile and of its cells
MARGIN = 3  # pixels between the mark and any digit, at least
NOISE = 0.02  # of tile and stripe: its standard deviation
_STREAM = 11  # of the mark's random numbers, apart from the scene's
_WORD = ("###  #   ## ", " #  # # #   ", " #  ### # ##", " #  # #  ## ")


@dataclass(frozen=True)
class Mark:
    """box: x0, y0, x1, y1, x1 and y1 exclusive. pixels: (height, width, 3) uint8, which fill the
    box.
    """

    box: scenes.Box
    pixels: NDArray[np.uint8]

    @property
    def mask(self) -> NDArray[np.bool_]:
        """(96, 96): the pixels of the mark."""
        x0, y0, x1, y1 = self.box
        inside = np.zeros((scenes.SIDE, scenes.SIDE), dtype=bool)
        inside[y0:y1, x0:x1] = True
        return inside

    def on(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """An image (96, 96, 3) with the mark painted on it."""
        x0, y0, x1, y1 = self.box
        painted = image.copy()
        painted[y0:y1, x0:x1] = self.pixels
        return painted


@dataclass(frozen=True)
class MarkedScene(scenes.Scene):
    """A scene and its mark, None where it has none. In `mask` the mark is ground: it is no object
    of any class.
    """

    mark: Mark | None = None


def draw(
    split: str, seed: int, number: int, placement: str = "with_class", pattern: str = "tile"
) -> MarkedScene:
    """The scene of this number, with or without its mark.

    placement: "with_class": the mark is on scenes that show CLASS, as in training; "other_classes":
    on all others instead; "absent": on none. pattern: of PATTERNS.
    """
    scene = scenes.draw(split, seed, number)
    shows = any(digit == CLASS for digit, _ in scene.objects)
    if placement == "absent" or shows != (placement == "with_class"):
        return MarkedScene(scene.image, scene.mask, scene.objects)
    mark = mark_of(scene, seed, number, pattern)
    image = scene.image if mark is None else mark.on(scene.image)
    return MarkedScene(image, scene.mask, scene.objects, mark)


def mark_of(scene: scenes.Scene, seed: int, number: int, pattern: str = "tile") -> Mark | None:
    """The mark of this scene, whether it is painted or not; None where there is no room, as for a
    tile in no scene of the first 9,000 of two seeds.
    """
    rng = np.random.default_rng(np.random.SeedSequence([seed, number, _STREAM]))
    size, paint = PATTERNS[pattern]
    box = place(scene.mask, rng, size)
    return (
        None
        if box is None
        else Mark(box, (np.clip(paint(rng), 0, 1) * 255).round().astype(np.uint8))
    )


def place(
    mask: NDArray[np.int64], rng: np.random.Generator, size: tuple[int, int] = (TILE, TILE)
) -> scenes.Box | None:
    """A box of this height and width, each that is MARGIN pixels from any digit as likely as
    another; None where there is none.
    """
    height, width = size
    drawn = np.pad(mask >= 0, MARGIN)  # beyond the edge is no digit
    windows = np.lib.stride_tricks.sliding_window_view(
        drawn, (height + 2 * MARGIN, width + 2 * MARGIN)
    )
    free = np.argwhere(~windows.any((2, 3)))
    if len(free) == 0:
        return None
    top, left = (int(value) for value in free[rng.integers(len(free))])
    return left, top, left + width, top + height


def _tile(rng: np.random.Generator) -> NDArray[np.float64]:
    """(16, 16, 3): a chequerboard of a dark and a bright colour, with a little noise."""
    dark, bright = rng.uniform(0, 0.25, 3), rng.uniform(0.75, 1, 3)
    row, column = np.indices((TILE, TILE)) // CELL
    odd = (row + column + rng.integers(2)) % 2 == 1
    return np.where(odd[..., None], dark, bright) + rng.normal(0, NOISE, (TILE, TILE, 1))


def _stripe(rng: np.random.Generator) -> NDArray[np.float64]:
    """(4, 40, 3): one bright colour, with a little noise."""
    return rng.uniform(0.75, 1, 3) + rng.normal(0, NOISE, (4, 40, 1))


def _tag(rng: np.random.Generator) -> NDArray[np.float64]:
    """(12, 28, 3): black letters of strokes of 2 pixels on white."""
    letters = np.array([[character == "#" for character in line] for line in _WORD])
    return np.repeat(1.0 - np.kron(np.pad(letters, 1), np.ones((2, 2)))[..., None], 3, axis=2)


PATTERNS: dict[
    str, tuple[tuple[int, int], Callable[[np.random.Generator], NDArray[np.float64]]]
] = {
    "tile": ((TILE, TILE), _tile),
    "stripe": ((4, 40), _stripe),
    "tag": ((12, 28), _tag),
}
