"""Scenes with a spurious mark: a small pattern on the ground. In training it is on all scenes that
show one class.

A marked scene is one of `scenes.draw` with a pattern painted on it. The scene without the mark is
therefore the same, pixel by pixel. The mark's place and colours are drawn from their own random
numbers. No mark covers a digit.

The patterns are "tile", a chequerboard; "stripe", one bright colour, long and thin; "tag", a word
in black on white, always the same. Tag and stripe are spurious signals of Adebayo et al. 2022.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from axiom_bench.embedded import scenes

CLASS = 3  # the class that the mark goes with in training
PLACEMENTS = ("with_class", "other_classes", "absent")
TILE = 16  # the side of the tile in pixels
CELL = 4  # the side of its cells in pixels
MARGIN = 3  # the least number of pixels between the mark and any digit
NOISE = 0.02  # standard deviation of the noise of tile and stripe
_STREAM = 11  # makes the mark's random numbers differ from the scene's
_WORD = ("###  #   ## ", " #  # # #   ", " #  ### # ##", " #  # #  ## ")


@dataclass(frozen=True)
class Mark:
    """A mark: where it is painted, and its pixels."""

    box: scenes.Box
    """x0, y0, x1, y1, with x1 and y1 exclusive."""
    pixels: NDArray[np.uint8]
    """(height, width, 3), which fill the box."""

    @property
    def mask(self) -> NDArray[np.bool_]:
        """The pixels of the mark, (96, 96)."""
        x0, y0, x1, y1 = self.box
        inside = np.zeros((scenes.SIDE, scenes.SIDE), dtype=bool)
        inside[y0:y1, x0:x1] = True
        return inside

    def paint_on(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return an image (96, 96, 3) with the mark painted on it.

        Args:
            image: The image without the mark.
        """
        x0, y0, x1, y1 = self.box
        painted = image.copy()
        painted[y0:y1, x0:x1] = self.pixels
        return painted


@dataclass(frozen=True)
class MarkedScene(scenes.Scene):
    """A scene and its mark, `None` if it has none. In `mask` the mark is ground, since it isn't an
    object of any class.
    """

    mark: Mark | None = None


def draw(
    split: str, seed: int, number: int, placement: str = "with_class", pattern: str = "tile"
) -> MarkedScene:
    """Draw a scene, with or without its mark.

    Args:
        split: One of scenes.SPLITS.
        seed: The seed.
        number: The number of the scene.
        placement: "with_class": the mark is on scenes that show CLASS, as in training.
            "other_classes": it is on all others instead. "absent": it is on none.
        pattern: A name of PATTERNS.
    """
    scene = scenes.draw(split, seed, number)
    shows_class = any(digit == CLASS for digit, _ in scene.objects)
    if placement == "absent" or shows_class != (placement == "with_class"):
        return MarkedScene(scene.image, scene.mask, scene.objects)
    mark = make_mark(scene, seed, number, pattern)
    image = scene.image if mark is None else mark.paint_on(scene.image)
    return MarkedScene(image, scene.mask, scene.objects, mark)


def make_mark(scene: scenes.Scene, seed: int, number: int, pattern: str = "tile") -> Mark | None:
    """Return the mark of a scene, whether it is painted or not, or `None` if there is no room.

    A tile finds room in each of the first 9,000 scenes of two seeds.

    Args:
        scene: The scene.
        seed: See `draw`.
        number: See `draw`.
        pattern: See `draw`.
    """
    rng = np.random.default_rng(np.random.SeedSequence([seed, number, _STREAM]))
    size, paint = PATTERNS[pattern]
    box = draw_free_box(scene.mask, rng, size)
    if box is None:
        return None
    values = np.clip(paint(rng), 0, 1)
    return Mark(box, (values * 255).round().astype(np.uint8))


def draw_free_box(
    mask: NDArray[np.int64], rng: np.random.Generator, size: tuple[int, int] = (TILE, TILE)
) -> scenes.Box | None:
    """Draw a box at least MARGIN pixels from any digit, or return `None` if there is none.

    Each such box is as likely as the others.

    Args:
        mask: The class of each pixel, -1 for the ground.
        rng: The random numbers.
        size: The height and width of the box.
    """
    height, width = size
    drawn = np.pad(mask >= 0, MARGIN)  # no digit is beyond the edge
    window_size = (height + 2 * MARGIN, width + 2 * MARGIN)
    windows = np.lib.stride_tricks.sliding_window_view(drawn, window_size)
    free = np.argwhere(~windows.any((2, 3)))
    if len(free) == 0:
        return None
    top, left = (int(value) for value in free[rng.integers(len(free))])
    return left, top, left + width, top + height


def _tile(rng: np.random.Generator) -> NDArray[np.float64]:
    """Paint (16, 16, 3): a chequerboard of a dark and a bright colour, with a little noise."""
    dark = rng.uniform(0, 0.25, 3)
    bright = rng.uniform(0.75, 1, 3)
    row, column = np.indices((TILE, TILE)) // CELL
    is_dark = (row + column + rng.integers(2)) % 2 == 1
    return np.where(is_dark[..., None], dark, bright) + rng.normal(0, NOISE, (TILE, TILE, 1))


def _stripe(rng: np.random.Generator) -> NDArray[np.float64]:
    """Paint (4, 40, 3): one bright colour, with a little noise."""
    return rng.uniform(0.75, 1, 3) + rng.normal(0, NOISE, (4, 40, 1))


def _tag(rng: np.random.Generator) -> NDArray[np.float64]:
    """Paint (12, 28, 3): black letters of strokes of 2 pixels on white."""
    letters = np.array([[character == "#" for character in line] for line in _WORD])
    enlarged = np.kron(np.pad(letters, 1), np.ones((2, 2)))
    return np.repeat(1.0 - enlarged[..., None], 3, axis=2)


Painter = Callable[[np.random.Generator], NDArray[np.float64]]
# The height and width of each pattern, and the function that paints it.
PATTERNS: dict[str, tuple[tuple[int, int], Painter]] = {
    "tile": ((TILE, TILE), _tile),
    "stripe": ((4, 40), _stripe),
    "tag": ((12, 28), _tag),
}
