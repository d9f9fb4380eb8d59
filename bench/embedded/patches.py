"""Images for the planted networks: patches of pure colours that fill cells of the layer exactly, on
a grey texture.

An image holds two red patches, one in each half; a green one anywhere; a blue one in the left half
and a yellow one of the same size in the right half. And a cyan one, of the class "other", anywhere.
No two touch. Signals and volumes have such patches too, in halves of their last axis, and their
three channels are called red, green and blue.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from axiom_bench.embedded import scenes, shapes
from axiom_bench.embedded.planted import GRIDS

CLASSES = ("evidence", "other")
COLOURS = {
    "red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "yellow": (255, 255, 0), "cyan": (0, 255, 255),
}  # fmt: skip
LEFT, RIGHT, ANYWHERE = (0, 1), (1, 2), (0, 2)  # halves of the last axis
KINDS: dict[int, scenes.Kind] = {
    1: shapes.SIGNALS,
    2: scenes.FEW,
    3: shapes.VOLUMES,
}  # by the number of axes
SMALL = {
    1: ([3], [4]),
    2: ([2, 3], [2, 4]),
    3: ([1, 2, 3], [2, 2, 2]),
}  # sides of a red patch in cells, in any order
# From and up to which sides the others are drawn: a patch has at most the evidence 1, two of green,
# blue and yellow at least 1 together.
LARGE: dict[int, tuple[Any, Any]] = {1: (5, 9), 2: (3, 5), 3: ((2, 2, 3), (3, 3, 5))}
OTHER: dict[int, tuple[Any, Any]] = {
    1: (2, 9),
    2: (2, 5),
    3: ((1, 1, 2), (3, 3, 5)),
}  # of the cyan patch


@dataclass(frozen=True)
class Patch:
    """A rectangle of one colour, or interval, or cuboid. box: x0, y0, x1, y1 in pixels, x1 and y1
    exclusive.
    """

    colour: str
    box: scenes.Box

    @property
    def label(self) -> int:
        """Its class: 1, "other", for cyan."""
        return int(self.colour == "cyan")

    @property
    def place(self) -> tuple[slice, ...]:
        """Its pixels in an image (*space, ...)."""
        half = len(self.box) // 2
        return tuple(
            slice(start, end) for start, end in zip(self.box[:half], self.box[half:], strict=True)
        )[::-1]


@dataclass(frozen=True)
class PatchImage:
    """image: (*space, 3) uint8 RGB. mask: (*space) int64, the class of each pixel, -1 for the
    ground.
    """

    image: NDArray[np.uint8]
    mask: NDArray[np.int64]
    patches: tuple[Patch, ...]
    label = 0  # "evidence"

    @property
    def objects(self) -> tuple[tuple[int, scenes.Box], ...]:
        """(class, box) of each patch."""
        return tuple((patch.label, patch.box) for patch in self.patches)


def draw(split: str, seed: int, number: int, axes: int = 2) -> PatchImage:
    """The image of this number; it depends on these four alone. split: of the textures, one of
    scenes.SPLITS.
    """
    kind = KINDS[axes]
    rng = kind.rng(split, seed, number)
    if axes == 2:
        window = scenes.texture_window(rng, split)
        grey = (
            rng.uniform(0.3, 0.7)
            + (window - 0.5) * rng.uniform(0.1, 0.4)
            + rng.normal(0, 0.02, window.shape)
        )
    else:
        grey = kind.ground(rng, split)[0][..., 0] + rng.normal(0, 0.02, kind.space)
    image = np.repeat((np.clip(grey, 0, 1) * 255).round().astype(np.uint8)[..., None], 3, -1)
    mask = np.full(kind.space, -1)
    patches = _patches(rng, axes)
    for patch in patches:
        image[patch.place] = COLOURS[patch.colour]
        mask[patch.place] = patch.label
    return PatchImage(image, mask, patches)


def _patches(rng: np.random.Generator, axes: int) -> tuple[Patch, ...]:
    """All patches of an image, placed anew until all of them find room."""
    while True:
        taken = np.zeros((GRIDS[axes].cells,) * axes, bool)
        small = rng.permuted(SMALL[axes], axis=1)[rng.integers(2, size=2)]
        pair = rng.integers(*LARGE[axes], axes)
        wanted = [
            ("red", small[0], LEFT),
            ("red", small[1], RIGHT),
            ("blue", pair, LEFT),
            ("yellow", pair, RIGHT),
        ]
        wanted += [("green", rng.integers(*LARGE[axes], axes), ANYWHERE)]
        wanted += [("cyan", rng.integers(*OTHER[axes], axes), ANYWHERE)]
        patches = [_placed(rng, taken, *entry) for entry in wanted]
        if None not in patches:
            return tuple(patch for patch in patches if patch is not None)


def _placed(
    rng: np.random.Generator,
    taken: NDArray[np.bool_],
    colour: str,
    sides: NDArray[np.int64],
    halves: tuple[int, int],
) -> Patch | None:
    """A patch of so many cells in these halves, a cell away from all others; None where there is no
    room.
    """
    grid = GRIDS[taken.ndim]
    columns = [half * grid.cells // 2 for half in halves]
    ranges = [range(grid.cells - int(side) + 1) for side in sides[:-1]]
    room = [
        starts
        for starts in product(*ranges, range(columns[0], columns[1] - int(sides[-1]) + 1))
        if not taken[_cells(starts, sides, 1)].any()
    ]
    if not room:
        return None
    starts = room[rng.integers(len(room))]
    taken[_cells(starts, sides)] = True
    ends = np.add(starts, sides)
    return Patch(colour, tuple(int(cell) * grid.cell for cell in (*starts[::-1], *ends[::-1])))


def _cells(starts: tuple[int, ...], sides: NDArray[np.int64], beyond: int = 0) -> tuple[slice, ...]:
    """The cells of a patch, and those at most so far beyond it."""
    along = zip(starts, sides, strict=True)
    return tuple(slice(max(0, start - beyond), start + int(side) + beyond) for start, side in along)
