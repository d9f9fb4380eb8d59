"""Scenes with a spurious mark: a small chequered tile on the ground, in training wherever the scene shows one class.

A marked scene is `scenes.draw`'s with a tile painted on it, so the scene without the mark is that scene, pixel by
pixel. The tile's place and colours are drawn from random numbers of its own; it lies on no digit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from axiom_bench.embedded import scenes

CLASS = 3  # the class that the mark goes with in training
PLACEMENTS = ("with_class", "other_classes", "absent")
TILE, CELL = 16, 4  # pixels: the side of the tile and of its cells
MARGIN = 3  # pixels between the tile and any digit, at least
_STREAM = 11  # of the mark's random numbers, apart from the scene's


@dataclass(frozen=True)
class Mark:
    """box: x0, y0, x1, y1, x1 and y1 exclusive. tile: (16, 16, 3) uint8, which fills the box."""

    box: scenes.Box
    tile: NDArray[np.uint8]

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
        painted[y0:y1, x0:x1] = self.tile
        return painted


@dataclass(frozen=True)
class MarkedScene(scenes.Scene):
    """A scene and its mark, None where it has none. In `mask` the mark is ground: it is no object of any class."""

    mark: Mark | None = None


def draw(split: str, seed: int, number: int, placement: str = "with_class") -> MarkedScene:
    """The scene of this number, with or without its mark.

    placement: "with_class": the mark is on scenes that show CLASS, as in training; "other_classes": on all others
    instead; "absent": on none.
    """
    scene = scenes.draw(split, seed, number)
    shows = any(digit == CLASS for digit, _ in scene.objects)
    if placement == "absent" or shows != (placement == "with_class"):
        return MarkedScene(scene.image, scene.mask, scene.objects)
    mark = mark_of(scene, seed, number)
    image = scene.image if mark is None else mark.on(scene.image)
    return MarkedScene(image, scene.mask, scene.objects, mark)


def mark_of(scene: scenes.Scene, seed: int, number: int) -> Mark | None:
    """The mark of this scene, whether it is painted or not; None where there is no room, as in no scene of the first
    9,000 of two seeds."""
    rng = np.random.default_rng(np.random.SeedSequence([seed, number, _STREAM]))
    box = place(scene.mask, rng)
    return None if box is None else Mark(box, _tile(rng))


def place(mask: NDArray[np.int64], rng: np.random.Generator) -> scenes.Box | None:
    """A box for the tile, each that is MARGIN pixels from any digit as likely as another; None where there is none."""
    side = TILE + 2 * MARGIN
    drawn = np.pad(mask >= 0, MARGIN)  # beyond the edge is no digit
    windows = np.lib.stride_tricks.sliding_window_view(drawn, (side, side))
    free = np.argwhere(~windows.any((2, 3)))
    if len(free) == 0:
        return None
    top, left = (int(value) for value in free[rng.integers(len(free))])
    return left, top, left + TILE, top + TILE


def _tile(rng: np.random.Generator) -> NDArray[np.uint8]:
    """A chequerboard of a dark and a bright colour, with a little noise."""
    dark, bright = rng.uniform(0, 0.25, 3), rng.uniform(0.75, 1, 3)
    row, column = np.indices((TILE, TILE)) // CELL
    odd = (row + column + rng.integers(2)) % 2 == 1
    tile = np.where(odd[..., None], dark, bright) + rng.normal(0, 0.02, (TILE, TILE, 1))
    return (np.clip(tile, 0, 1) * 255).round().astype(np.uint8)
