"""Images for the planted networks: patches of pure colours that fill cells of the layer exactly, on
a grey texture.

An image holds two red patches, one in each half, and a green one anywhere. It holds a blue one in
the left half and a yellow one of the same size in the right half, and a cyan one, of the class
"other", anywhere. No two touch. Signals and volumes have such patches too, in halves of their last
axis, and their three channels are called red, green and blue.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from axiom_bench.embedded import scenes, shapes
from axiom_bench.embedded.planted import GRIDS

CLASSES = ("evidence", "other")
COLOURS = {
    "red": (255, 0, 0),
    "green": (0, 255, 0),
    "blue": (0, 0, 255),
    "yellow": (255, 255, 0),
    "cyan": (0, 255, 255),
}
# ranges of halves of the last axis
LEFT = (0, 1)
RIGHT = (1, 2)
ANYWHERE = (0, 2)
Sides = int | tuple[int, ...]  # one for all axes, or one for each
# The tables below are by the number of axes.
KINDS: dict[int, scenes.Kind] = {1: shapes.SIGNALS, 2: scenes.FEW, 3: shapes.VOLUMES}
# Two choices of the sides of a red patch in cells, which are used in any order.
SMALL = {
    1: ([3], [4]),
    2: ([2, 3], [2, 4]),
    3: ([1, 2, 3], [2, 2, 2]),
}
# Ranges of the sides of the green, blue and yellow patches, ends exclusive. A patch has at most the
# evidence 1, and two of these three have at least 1 together.
LARGE: dict[int, tuple[Sides, Sides]] = {1: (5, 9), 2: (3, 5), 3: ((2, 2, 3), (3, 3, 5))}
# Ranges of the sides of the cyan patch, ends exclusive.
OTHER: dict[int, tuple[Sides, Sides]] = {1: (2, 9), 2: (2, 5), 3: ((1, 1, 2), (3, 3, 5))}


@dataclass(frozen=True)
class Patch:
    """A rectangle of one colour, or an interval of a signal, or a cuboid of a volume."""

    colour: str
    """A name of COLOURS."""
    box: scenes.Box
    """x0, y0, x1, y1 in pixels, with x1 and y1 exclusive."""

    @property
    def label(self) -> int:
        """The class: 1, "other", for cyan, otherwise 0."""
        return int(self.colour == "cyan")

    @property
    def place(self) -> tuple[slice, ...]:
        """The slices of the patch in an image (*space, ...)."""
        num_axes = len(self.box) // 2
        starts = self.box[:num_axes]
        ends = self.box[num_axes:]
        slices = tuple(slice(start, end) for start, end in zip(starts, ends, strict=True))
        return slices[::-1]  # a box starts with the last axis


@dataclass(frozen=True)
class PatchImage:
    """An image with its patches."""

    image: NDArray[np.uint8]
    """(*space, 3) RGB."""
    mask: NDArray[np.int64]
    """(*space), the class of each pixel, -1 for the ground."""
    patches: tuple[Patch, ...]
    label = 0  # the class "evidence"

    @property
    def objects(self) -> tuple[tuple[int, scenes.Box], ...]:
        """(class, box) of each patch."""
        return tuple((patch.label, patch.box) for patch in self.patches)


def draw(split: str, seed: int, number: int, axes: int = 2) -> PatchImage:
    """Draw an image, which depends only on these four arguments.

    Args:
        split: The split of the textures, one of scenes.SPLITS.
        seed: The seed.
        number: The number of the image.
        axes: 1 for signals, 2 for images, 3 for volumes.
    """
    kind = KINDS[axes]
    rng = kind.rng(split, seed, number)
    if axes == 2:
        window = scenes.texture_window(rng, split)
        brightness = rng.uniform(0.3, 0.7)
        contrast = rng.uniform(0.1, 0.4)
        grey = brightness + (window - 0.5) * contrast + rng.normal(0, 0.02, window.shape)
    else:
        ground, _ = kind.ground(rng, split)
        grey = ground[..., 0] + rng.normal(0, 0.02, kind.space)
    grey_bytes = (np.clip(grey, 0, 1) * 255).round().astype(np.uint8)
    image = np.repeat(grey_bytes[..., None], 3, -1)
    mask = np.full(kind.space, -1)
    patches = _patches(rng, axes)
    # Patches are drawn last, so that their pixels have exactly their colours.
    for patch in patches:
        image[patch.place] = COLOURS[patch.colour]
        mask[patch.place] = patch.label
    return PatchImage(image, mask, patches)


def _patches(rng: np.random.Generator, axes: int) -> tuple[Patch, ...]:
    """Draw all patches of an image, and draw them again until all of them find room."""
    while True:
        is_taken = np.zeros((GRIDS[axes].cells,) * axes, bool)
        red_sides = rng.permuted(SMALL[axes], axis=1)[rng.integers(2, size=2)]
        pair_sides = rng.integers(*LARGE[axes], axes)
        green_sides = rng.integers(*LARGE[axes], axes)
        cyan_sides = rng.integers(*OTHER[axes], axes)
        patches = [
            _place_patch(rng, is_taken, "red", red_sides[0], LEFT),
            _place_patch(rng, is_taken, "red", red_sides[1], RIGHT),
            _place_patch(rng, is_taken, "blue", pair_sides, LEFT),
            _place_patch(rng, is_taken, "yellow", pair_sides, RIGHT),
            _place_patch(rng, is_taken, "green", green_sides, ANYWHERE),
            _place_patch(rng, is_taken, "cyan", cyan_sides, ANYWHERE),
        ]
        placed = tuple(patch for patch in patches if patch is not None)
        if len(placed) == len(patches):
            return placed


def _place_patch(
    rng: np.random.Generator,
    is_taken: NDArray[np.bool_],
    colour: str,
    sides: NDArray[np.int64],
    halves: tuple[int, int],
) -> Patch | None:
    """Place a patch of these sides in cells within these halves, at least a cell away from all
    others. Return None if there is no room.
    """
    grid = GRIDS[is_taken.ndim]
    first_column, end_column = (half * grid.cells // 2 for half in halves)
    # whether a cell is taken in or next to a patch that starts in each cell
    windows = sliding_window_view(np.pad(is_taken, 1), tuple(sides + 2))
    is_free = ~np.asarray(windows.any(axis=tuple(range(-is_taken.ndim, 0))))
    room = np.argwhere(is_free[..., first_column : end_column - sides[-1] + 1])
    if not len(room):
        return None
    starts = room[rng.integers(len(room))]
    starts[-1] += first_column
    ends = starts + sides
    is_taken[tuple(map(slice, starts, ends))] = True
    box_in_cells = (*starts[::-1], *ends[::-1])
    return Patch(colour, tuple(int(cell) * grid.cell for cell in box_in_cells))
