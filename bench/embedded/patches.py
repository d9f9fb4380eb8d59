"""Images for the planted networks: patches of pure colours that fill cells of the layer exactly, on a grey texture.

An image holds two red patches, one in each half; a green one anywhere; a blue one in the left half and a yellow one of
the same size in the right half. And a cyan one, of the class "other", anywhere. No two touch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from axiom_bench.embedded import scenes
from axiom_bench.embedded.planted import CELL, CELLS

SIDE = CELL * CELLS
CLASSES = ("evidence", "other")
COLOURS = {
    "red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "yellow": (255, 255, 0), "cyan": (0, 255, 255),
}  # fmt: skip
LEFT, RIGHT, ANYWHERE = (0, CELLS // 2), (CELLS // 2, CELLS), (0, CELLS)


@dataclass(frozen=True)
class Patch:
    """A rectangle of one colour. box: x0, y0, x1, y1 in pixels, x1 and y1 exclusive."""

    colour: str
    box: scenes.Box

    @property
    def label(self) -> int:
        """Its class: 1, "other", for cyan."""
        return int(self.colour == "cyan")

    @property
    def place(self) -> tuple[slice, slice]:
        """Its pixels in an image (H', W', ...)."""
        x0, y0, x1, y1 = self.box
        return slice(y0, y1), slice(x0, x1)


@dataclass(frozen=True)
class PatchImage:
    """image: (96, 96, 3) uint8 RGB. mask: (96, 96) int64, the class of each pixel, -1 for the ground."""

    image: NDArray[np.uint8]
    mask: NDArray[np.int64]
    patches: tuple[Patch, ...]
    label = 0  # "evidence"

    @property
    def objects(self) -> tuple[tuple[int, scenes.Box], ...]:
        """(class, box) of each patch."""
        return tuple((patch.label, patch.box) for patch in self.patches)


def draw(split: str, seed: int, number: int) -> PatchImage:
    """The image of this number; it depends on all three alone. split: of the textures, one of scenes.SPLITS."""
    rng = np.random.default_rng(np.random.SeedSequence([seed, number]))
    window = scenes.texture_window(rng, split)
    grey = rng.uniform(0.3, 0.7) + (window - 0.5) * rng.uniform(0.1, 0.4) + rng.normal(0, 0.02, (SIDE, SIDE))
    image = np.repeat((np.clip(grey, 0, 1) * 255).round().astype(np.uint8)[..., None], 3, 2)
    mask = np.full((SIDE, SIDE), -1)
    patches = _patches(rng)
    for patch in patches:
        image[patch.place] = COLOURS[patch.colour]
        mask[patch.place] = patch.label
    return PatchImage(image, mask, patches)


def _patches(rng: np.random.Generator) -> tuple[Patch, ...]:
    """All patches of an image, placed anew until all of them find room."""
    while True:
        taken = np.zeros((CELLS, CELLS), bool)
        small = rng.permuted([[2, 3], [2, 4]], axis=1)[rng.integers(2, size=2)]  # sides in cells
        pair = rng.integers(3, 5, 2)
        wanted = [("red", small[0], LEFT), ("red", small[1], RIGHT), ("blue", pair, LEFT), ("yellow", pair, RIGHT)]
        wanted += [("green", rng.integers(3, 5, 2), ANYWHERE), ("cyan", rng.integers(2, 5, 2), ANYWHERE)]
        patches = [_placed(rng, taken, *entry) for entry in wanted]
        if None not in patches:
            return tuple(patch for patch in patches if patch is not None)


def _placed(
    rng: np.random.Generator, taken: NDArray[np.bool_], colour: str, sides: NDArray[np.int64], columns: tuple[int, int]
) -> Patch | None:
    """A patch of so many cells between these columns, a cell away from all others; None where there is no room."""
    height, width = (int(side) for side in sides)
    room = [
        (top, left)
        for top in range(CELLS - height + 1)
        for left in range(columns[0], columns[1] - width + 1)
        if not taken[max(0, top - 1) : top + height + 1, max(0, left - 1) : left + width + 1].any()
    ]
    if not room:
        return None
    top, left = room[rng.integers(len(room))]
    taken[top : top + height, left : left + width] = True
    return Patch(colour, (left * CELL, top * CELL, (left + width) * CELL, (top + height) * CELL))
