"""Who sees what, as a Latin square of images over methods and classes, and the rules that are fixed beforehand."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SHARE = 0.2  # of an image's pixels that stay visible
CHECKS = 6  # whole pictures among the others
CHECKS_NEEDED = 5  # of them that a player must name correctly for the other answers to count
FLOOR = "centred_blob"  # a condition of the game's own: it shows the middle, whatever the class
FLOOR_TITLE = "Centred blob"


def latin_square(images: int, cells: int, seed: int) -> NDArray[np.int64]:
    """(cells, images): the cell that a player of row `number % cells` sees of each image.

    A cell is a method and a class, see `method_and_class`. In each column every cell stands once, so `cells` players
    with consecutive numbers see each image in every cell. In each row the cells are balanced, and so are the methods:
    their counts differ by 1 at most. seed: shuffles rows and columns, which keeps both.
    """
    generator = np.random.default_rng(seed)
    rows, columns = generator.permutation(cells), generator.permutation(images)
    square: NDArray[np.int64] = (rows[:, None] + columns[None, :]) % cells
    return square


def method_and_class(cell: int, methods: int) -> tuple[int, int]:
    """(index of the method, 0 or 1 for the image's class) of a cell; cells that follow each other differ in method."""
    return cell % methods, cell // methods
