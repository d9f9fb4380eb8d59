"""Which image stands in which cell of which mosaic: a pure function of ids, classes, grid and seed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Candidate:
    """An image that may stand in a cell. index: its place in the data set. label: its only class."""

    index: int
    image_id: str
    label: int


@dataclass(frozen=True)
class Layout:
    """One mosaic. cells: its images from left to right, then from top to bottom. target: the class that
    `target=label` explains, which `target_cells` cells show."""

    cells: tuple[Candidate, ...]
    target: int


def layouts(
    candidates: Sequence[Candidate], grid: int, target_cells: int = 1, uses: int = 1, seed: int = 0
) -> list[Layout]:
    """All mosaics of grid x grid cells that the candidates make, in a fixed order: the first n are those of a choice
    of n. They don't depend on the order of the candidates.

    One class, the target, has `target_cells` cells, each other class of a mosaic one. An image is at most once in a
    mosaic and at most `uses` times in all: there are `uses` rounds, each over all images. Classes with the most images
    left come first, of equals by chance, so that images are left over only where too few classes have any. With several
    target cells the target is the class that was it least often. Which image of a class comes, and where it stands, is
    chance, which the seed decides.
    """
    made: list[Layout] = []
    for turn in range(uses):
        made += _round(candidates, grid**2, target_cells, (seed, turn))
    return made


def _round(candidates: Sequence[Candidate], cells: int, target_cells: int, seeds: tuple[int, int]) -> Iterator[Layout]:
    left = _by_class(candidates, seeds)
    count = np.array([len(images) for images in left], dtype=np.int64)
    targeted = np.zeros(len(left), dtype=np.int64)
    number = 0
    while True:
        chance = np.random.default_rng([*seeds, number])
        classes = _classes(count, targeted, cells, target_cells, chance.random(len(left)))
        if classes is None:
            return
        images = [left[label].pop() for label in classes]
        count[classes] = [len(left[label]) for label in classes]
        targeted[classes[0]] += 1
        yield Layout(tuple(images[place] for place in chance.permutation(cells)), int(classes[0]))
        number += 1


def _classes(
    count: NDArray[np.int64],
    targeted: NDArray[np.int64],
    cells: int,
    target_cells: int,
    chance: NDArray[np.float64],
) -> NDArray[np.int64] | None:
    """The class of each image of the next mosaic, the target's first; None where too few images are left."""
    order = np.lexsort((chance, -count))
    order = order[count[order] > 0]
    if target_cells == 1:
        return order[:cells] if len(order) >= cells else None
    targets = order[count[order] >= target_cells]
    if not len(targets) or len(order) - 1 < cells - target_cells:
        return None
    target = targets[np.argmin(targeted[targets])]  # the first of equals, which has the most images left
    others = order[order != target][: cells - target_cells]
    return np.concatenate([np.full(target_cells, target), others])


def _by_class(candidates: Sequence[Candidate], seeds: tuple[int, int]) -> list[list[Candidate]]:
    """The images of each class, by a hash of the seed and their id: one image more or less moves no other."""
    images: list[list[Candidate]] = [[] for _ in range(max((image.label for image in candidates), default=-1) + 1)]
    for image in sorted(candidates, key=lambda image: hashlib.sha256(f"{seeds} {image.image_id}".encode()).digest()):
        images[image.label].append(image)
    return images
