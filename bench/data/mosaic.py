"""Mosaics of another data set's images: n x n of them side by side.

The class and the place of each cell are exact.

A map should point to the cells of the target class. So mosaics score maps with the images' labels
only, without boxes or masks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, count
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from axiom_bench.data.base import (
    BadImage,
    Box,
    DataSet,
    DerivedDataSet,
    FileHashes,
    Sample,
    Seed,
    Selected,
    StoredPart,
)
from axiom_bench.data.preprocessing import Preprocessing
from axiom_bench.errors import BenchError, unknown_name
from axiom_bench.kinds import Name, described_values, whole_number

SIZES = ("full", "fit")  # of a cell
MAX_GRID = 100  # cells along a side
DRAWS = 3  # other images for each cell
Probability = Annotated[
    float, described_values("a probability, 0 to 1", lambda value: 0 <= value <= 1)
]


@dataclass(frozen=True)
class Candidate:
    """An image that may stand in a cell.

    Attributes:
        index: Its index in the data set.
        image_id: Its id.
        label: Its only class.
    """

    index: int
    image_id: str
    label: int


@dataclass(frozen=True)
class Layout:
    """One mosaic.

    Attributes:
        cells: Its images from left to right, then from top to bottom.
        target: The class that `target=label` explains, which `target_cells` cells show.
    """

    cells: tuple[Candidate, ...]
    target: int


def layouts(
    candidates: Sequence[Candidate], grid: int, target_cells: int = 1, uses: int = 1, seed: int = 0
) -> list[Layout]:
    """Return all mosaics that the candidates make, in a fixed order.

    The first n are those of a choice of n. They don't depend on the order of the candidates. One
    class, the target, has `target_cells` cells, each other class of a mosaic one. There are `uses`
    rounds, each over all images. Classes with the most images left come first, of equals by chance.
    So images are left over only if too few classes have any. With several target cells, the class
    that was the target least often is the target. Chance, which the seed decides, chooses the image
    of a class and its cell.

    Args:
        candidates: The images.
        grid: The cells along a side.
        target_cells: The cells of the target class.
        uses: How often an image may be used in all. In one mosaic it is at most once.
        seed: Decides the choices by chance.
    """
    rounds = (_round(candidates, grid**2, target_cells, (seed, turn)) for turn in range(uses))
    return list(chain.from_iterable(rounds))


def _round(
    candidates: Sequence[Candidate], cells: int, target_cells: int, seeds: tuple[int, int]
) -> Iterator[Layout]:
    """Yield the mosaics of one round, in which each image is used at most once."""
    images_by_class = _by_class(candidates, seeds)
    remaining = np.array([len(images) for images in images_by_class], dtype=np.int64)
    targeted = np.zeros(len(images_by_class), dtype=np.int64)
    for number in count():
        chance = np.random.default_rng([*seeds, number])
        priorities = chance.random(len(images_by_class))
        classes = _classes(remaining, targeted, cells, target_cells, priorities)
        if classes is None:
            return
        images = [images_by_class[label].pop() for label in classes]
        remaining[classes] = [len(images_by_class[label]) for label in classes]
        targeted[classes[0]] += 1
        cell_images = tuple(images[position] for position in chance.permutation(cells))
        yield Layout(cell_images, int(classes[0]))


def _classes(
    remaining: NDArray[np.int64],
    targeted: NDArray[np.int64],
    cells: int,
    target_cells: int,
    chance: NDArray[np.float64],
) -> NDArray[np.int64] | None:
    """Return the class of each image of the next mosaic, the target's first.

    It is None if too few images are left.
    """
    order = np.lexsort((chance, -remaining))
    order = order[remaining[order] > 0]
    if target_cells == 1:
        return order[:cells] if len(order) >= cells else None
    targets = order[remaining[order] >= target_cells]
    if not len(targets) or len(order) - 1 < cells - target_cells:
        return None
    # The first of equals, which has the most images left.
    target = targets[np.argmin(targeted[targets])]
    other_classes = order[order != target][: cells - target_cells]
    return np.concatenate([np.full(target_cells, target), other_classes])


def _by_class(candidates: Sequence[Candidate], seeds: tuple[int, int]) -> list[list[Candidate]]:
    """Return the images of each class, by a hash of the seed and their id.

    So one image more or less doesn't change the order of the others.
    """

    def digest(image: Candidate) -> bytes:
        return hashlib.sha256(f"{seeds} {image.image_id}".encode()).digest()

    class_count = max((image.label for image in candidates), default=-1) + 1
    images: list[list[Candidate]] = [[] for _ in range(class_count)]
    for image in sorted(candidates, key=digest):
        images[image.label].append(image)
    return images


class MosaicImages(Selected):
    """The images of another data set that mosaics are made of, and the settings of the mosaics.

    A network's predictions may decide which images are used. So `mosaics` is called when the
    predictions exist.

    Attributes:
        grid: The cells along a side.
        target_cells: The cells that show the target class; other classes of a mosaic have one cell.
            1 is GridPG (Rao et al. 2022), 2 of 2 x 2 is Focus (Arias-Duart et al. 2022).
        cell: "full": each image has the size that the network expects, so that a mosaic is `grid`
            times as wide and high. "fit": the mosaic itself has that size.
        confidence: The least probability that the network gives to the class of an image, which it
            must predict; None for any image, without asking the network.
        uses: The number of mosaics that an image may be in.
        size: The number of mosaics; None for as many as the images make.
        seed: Decides the choices by chance.

    Raises:
        BenchError: For a value that can't be.
    """

    def __init__(
        self,
        of: DataSet,
        grid: Annotated[int, whole_number(2, "cells along a side", MAX_GRID)] = 2,
        target_cells: Annotated[int, whole_number(1, "a number of cells")] = 1,
        cell: Name = "full",
        confidence: Probability | None = 0.99,
        uses: Annotated[int, whole_number(1, "a number of mosaics")] = 1,
        size: Annotated[int, whole_number(1, "a number of mosaics")] | None = None,
        seed: Seed = 0,
        name: Name = "mosaic",
    ) -> None:
        if any(isinstance(source, MosaicImages) for source in of.sources):
            raise BenchError(
                "data.of names the data set whose images fill the cells; it can't be of mosaics."
            )
        if cell not in SIZES:
            raise unknown_name("size of a mosaic's cells (data.cell)", cell, SIZES)
        if not 1 <= target_cells < grid**2:
            raise BenchError(
                f"data.target_cells={target_cells} of {grid} x {grid} cells: give 1 to "
                f"{grid**2 - 1}, so that a cell of another class is left."
            )
        # The data set itself has the images. `mosaics` makes the mosaics, for a network's size.
        super().__init__(of, range(len(of.ids)))
        self.name = name
        self.grid = grid
        self.target_cells = target_cells
        self.cell = cell
        self.confidence = confidence
        self.uses = uses
        self.size = size
        self.seed = seed

    def candidates(self, indices: Sequence[int]) -> tuple[Candidate, ...]:
        """Return the images that may stand in a cell: those with one class."""
        candidates = []
        for index in indices:
            labels = self.labels(index)
            if len(labels) == 1:
                candidates.append(Candidate(index, self.ids[index], labels[0]))
        return tuple(candidates)

    def mosaics(self, candidates: Sequence[Candidate], preprocessing: Preprocessing) -> Mosaics:
        """Return the mosaics of these images, for a network with this preprocessing.

        Raises:
            BenchError: If the images make none, or fewer than `size`.
        """
        all_layouts = layouts(candidates, self.grid, self.target_cells, self.uses, self.seed)
        made = len(all_layouts)
        if made < (self.size or 1):
            classes = len({image.label for image in candidates})
            # the target's class, and another one for each other cell
            needed = self.grid**2 - self.target_cells + 1
            lower = "lower data.confidence, " if self.confidence else ""
            if all_layouts:
                advice = (
                    f"set data.size to at most {made}, or null for all; or {lower}raise "
                    "data.uses, or give "
                )
                advice += "data.of more images"
            else:
                smaller = ", or set data.grid=2" if self.grid > 2 else ""
                advice = f"{lower}give data.of more images, of at least {needed} classes{smaller}"
            raise BenchError(
                f"data.size={'null' if self.size is None else self.size} mosaics of {self.grid} x "
                f"{self.grid} cells can't be made: {len(candidates)} images of {classes} classes "
                f"make {made}; {advice}."
            )
        return Mosaics(self, all_layouts[: self.size], preprocessing, candidates)


@dataclass(frozen=True)
class Cell:
    """A cell's image and its place in the mosaic.

    Attributes:
        image: The image.
        box: x0, y0, x1, y1, x1 and y1 exclusive.
    """

    image: Candidate
    box: tuple[int, int, int, int]


class Mosaics(DerivedDataSet):
    """Mosaics, preprocessed except for the scaling of values, which `preprocessing` does.

    Ids such as "0007: first.jpg | second.jpg | ..." have the number, and the images from left to
    right, then from top to bottom. The label is the target class. Objects and mask are the cells,
    which cover the image. A cell shows its image as the network sees it on its own, resized and
    cropped. With cell="fit" it is then resized to its share of the network's input, whose borders
    lie on whole pixels. So no cell has a pixel of another.

    Attributes:
        images: The images, and the settings of the mosaics.
        layouts: The mosaics.
        of_cells: The preprocessing of an image in a cell.
        preprocessing: The preprocessing of a mosaic.
        cell_size: (height, width) of an image before it is put into a cell.
        height: The height of a mosaic.
        width: The width of a mosaic.
    """

    def __init__(
        self,
        images: MosaicImages,
        made: Sequence[Layout],
        preprocessing: Preprocessing,
        candidates: Sequence[Candidate] = (),
    ) -> None:
        super().__init__(images, images.name)
        self.images = images
        self.layouts = tuple(made)
        self.of_cells = preprocessing
        # The candidates replace a cell's image in versions of the mosaic without it.
        self._candidates_by_class = _by_class(candidates, (images.seed, images.uses))
        names = (" | ".join(image.image_id for image in layout.cells) for layout in made)
        self.ids = tuple(f"{number:04d}: {joined}" for number, joined in enumerate(names))
        self.preprocessing = replace(preprocessing, resize=None, crop=None)
        self.cell_size = preprocessing.size or self._size_of_first()
        scale = images.grid if images.cell == "full" else 1
        cell_height, cell_width = self.cell_size
        self.height = scale * cell_height
        self.width = scale * cell_width

    def labels(self, index: int) -> tuple[int, ...]:
        return tuple(sorted({image.label for image in self.layouts[index].cells}))

    def cells(self, index: int) -> Iterator[Cell]:
        """Yield the cells of a mosaic, from left to right, then from top to bottom."""
        grid = self.images.grid
        xs = [round(number * self.width / grid) for number in range(grid + 1)]
        ys = [round(number * self.height / grid) for number in range(grid + 1)]
        for number, image in enumerate(self.layouts[index].cells):
            row, column = divmod(number, grid)
            yield Cell(image, (xs[column], ys[row], xs[column + 1], ys[row + 1]))

    def read(self, index: int) -> Sample:
        pictures = [(cell, self._picture(index, cell)) for cell in self.cells(index)]
        mosaic = Image.new(pictures[0][1].mode, (self.width, self.height))
        mask = np.empty((self.height, self.width), dtype=np.int64)
        objects: list[tuple[int, Box]] = []
        for cell, picture in pictures:
            x0, y0, x1, y1 = cell.box
            mosaic.paste(picture, (x0, y0))
            mask[y0:y1, x0:x1] = cell.image.label
            objects.append((cell.image.label, cell.box))
        return Sample(
            image=mosaic,
            image_id=self.ids[index],
            label=self.layouts[index].target,
            objects=tuple(objects),
            mask=mask,
            cells=True,
        )

    def others(self, index: int) -> tuple[tuple[Candidate, ...], ...]:
        """Return for each of DRAWS versions an image for each cell.

        The images are of classes that the mosaic doesn't show; () if there is no such class.
        """
        chance = np.random.default_rng([self.images.seed, index])
        shown = {image.label for image in self.layouts[index].cells}
        classes = [
            images
            for label, images in enumerate(self._candidates_by_class)
            if images and label not in shown
        ]
        if not classes:
            return ()
        drawn = chance.integers(len(classes), size=(DRAWS, self.images.grid**2))
        versions = []
        for row in drawn:
            version = []
            for number in row:
                images = classes[number]
                version.append(images[chance.integers(len(images))])
            versions.append(tuple(version))
        return tuple(versions)

    def interventions(self, index: int) -> tuple[StoredPart, ...]:
        """Return the cells, each with versions of the mosaic in which other images replace it.

        The other images are of classes that the mosaic doesn't show. So none of them is explained,
        unless `target=predicted` names such a class.
        """
        mosaic = self.read(index).image
        others = self.others(index)
        parts = []
        for number, cell in enumerate(self.cells(index)):
            x0, y0, x1, y1 = cell.box
            mask = np.zeros((self.height, self.width), dtype=bool)
            mask[y0:y1, x0:x1] = True
            versions = [mosaic.copy() for _ in others]
            for version, images in zip(versions, others, strict=True):
                picture = self._picture(index, Cell(images[number], cell.box))
                version.paste(picture, (x0, y0))
            name = f"cell {number + 1}: {self.class_names[cell.image.label]}"
            parts.append(StoredPart(name, cell.image.label, mask, tuple(versions)))
        return tuple(parts) if others else ()

    def fingerprint(self, index: int, hashes: FileHashes | None = None) -> str:
        layout = self.layouts[index]
        images = self.images
        facts = [images.grid, images.cell, layout.target, repr(self.of_cells), self.cell_size]
        cells = [
            (image.image_id, image.label, images.fingerprint(image.index, hashes))
            for image in self._all_images(index)
        ]
        return hashlib.sha256(repr((facts, cells)).encode()).hexdigest()

    def used(self, index: int) -> tuple[int, ...]:
        return tuple(image.index for image in self._all_images(index))

    def _all_images(self, index: int) -> tuple[Candidate, ...]:
        """Return the images of a mosaic, then those of its versions."""
        return (*self.layouts[index].cells, *chain.from_iterable(self.others(index)))

    def _preprocessed(self, index: int) -> Image.Image:
        """Return the image as the network sees it on its own."""
        return self.of_cells.picture(self.of_cells.read(self.images, index))

    def _picture(self, index: int, cell: Cell) -> Image.Image:
        """Return a cell's picture.

        Raises:
            BadImage: For the mosaic, if the image can't be read or has another size.
        """
        picture = self.part(index, self._preprocessed, cell.image.index)
        if (picture.height, picture.width) != self.cell_size:
            raise BadImage(
                self.ids[index],
                f"{cell.image.image_id} is {picture.height} x {picture.width} pixels for the "
                f"network, and the cells {self.cell_size[0]} x {self.cell_size[1]}; "
                "model.resize=[height,width] makes one size",
            )
        x0, y0, x1, y1 = cell.box
        if self.images.cell == "full":
            return picture
        return self.of_cells.resize_to(picture, (y1 - y0, x1 - x0))

    def _size_of_first(self) -> tuple[int, int]:
        """Return (height, width) of the first image that can be read.

        It counts if the preprocessing leaves each image its own size.
        """
        images = chain.from_iterable(layout.cells for layout in self.layouts)
        for image in images:
            try:
                picture = self._preprocessed(image.index)
            except BadImage:
                continue
            return picture.height, picture.width
        raise BenchError(
            f"None of the images of {self.images.of.name!r} in the mosaics can be read."
        )
