"""Objects cut out of photographs by their masks, and pasted on another photograph.

The effects of such an image's parts are known. An image has a ground, which is a photograph, and
objects side by side on it, each of another class that the ground isn't labelled with. So the image
without an object is the same photograph with its ground there, pixel by pixel. A network wasn't
trained on such images, but its effects on them are exact.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter, ImageOps
from scipy import ndimage

from axiom_bench.cutting.interventions import GROUND
from axiom_bench.data.base import (
    BACKGROUND,
    BadImage,
    DataSet,
    DerivedDataSet,
    Drawn,
    FileHashes,
    Sample,
    Seed,
    StoredPart,
)
from axiom_bench.errors import BenchError, plural
from axiom_bench.kinds import Name, whole_number

MAX_OBJECTS = 4  # in an image
# The least that an object that is cut out has.
LEAST = 64 * 64  # pixels
FULL = 0.4  # share of its box
MARGIN = 5  # pixels to the image's edge
# The most that an object takes of its column, which is as high as the image.
WIDTH = 0.8
HEIGHT = 0.7
LARGEST = 2.0  # how much an object is enlarged at most
FEATHER = 2  # pixels within an object's outline where it fades into the ground
GROUNDS = 3  # other grounds of an image
Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class CutOut:
    """An object in a data set's image.

    Attributes:
        index: The index of the image.
        label: The class of the object.
        box: x0, y0, x1, y1 around the object, x1 and y1 exclusive.
    """

    index: int
    label: int
    box: Box


@dataclass(frozen=True)
class Recipe:
    """The parts of an image.

    Attributes:
        ground: The index of the ground's photograph in the data set.
        objects: The objects, from left to right.
        others: The indices of the photographs of other grounds.
        places: For each object its place in its column, from left and top, 0 to 1.
    """

    ground: int
    objects: tuple[CutOut, ...]
    others: tuple[int, ...]
    places: tuple[tuple[float, float], ...]


@dataclass(frozen=True, eq=False)
class Pasted:
    """An object as it is pasted.

    Attributes:
        label: The class of the object.
        picture: The object's picture, resized.
        opacity: A grey image of the picture's size; pixels of 0 aren't pasted.
        box: x0, y0, x1, y1 in the image, x1 and y1 exclusive.
    """

    label: int
    picture: Image.Image
    opacity: Image.Image
    box: Box


class PastedImages(DerivedDataSet):
    """Photographs with objects pasted on them.

    Ids such as "000007: ground.jpg | first.jpg | second.jpg" have a number, and the images that the
    image is made of. The label is the class of the largest object. The ground is of no class in
    boxes and mask, whatever it shows. The seed and its number decide an image.

    `of` is the data set of grounds and objects, which has masks and each image's classes. Its
    images are read once, since an object is chosen by its mask: the largest region of a class, if
    it is large, fills its box and isn't cut off.

    Raises:
        BenchError: If `of` has too few masks or classes.
    """

    drawn = True

    def __init__(
        self,
        of: DataSet,
        size: Drawn,
        objects: Annotated[int, whole_number(1, "objects in an image", MAX_OBJECTS)] = 2,
        seed: Seed = 0,
        name: Name = "pasted",
    ) -> None:
        super().__init__(of, name)
        self.seed = seed
        self._labels = [frozenset(of.labels(index)) for index in range(len(of))]
        cut_outs: list[CutOut] = []
        for index in range(len(of)):
            cut_outs.extend(_cut_outs(of, index))
        self.recipes = tuple(self._recipe(number, objects, cut_outs) for number in range(size))
        ids = []
        for number, recipe in enumerate(self.recipes):
            indices = [recipe.ground, *(cut_out.index for cut_out in recipe.objects)]
            names = " | ".join(of.ids[index] for index in indices)
            ids.append(f"{number:06d}: {names}")
        self.ids = tuple(ids)

    def labels(self, index: int) -> tuple[int, ...]:
        return tuple(sorted(cut_out.label for cut_out in self.recipes[index].objects))

    def read(self, index: int) -> Sample:
        ground = self._ground(index)
        objects = self._objects(index)
        mask = np.full((ground.height, ground.width), BACKGROUND)
        for pasted in objects:
            mask[_region(pasted, mask.shape)] = pasted.label
        largest = max(objects, key=lambda pasted: pasted.picture.width * pasted.picture.height)
        return Sample(
            image=_paste(ground, objects),
            image_id=self.ids[index],
            label=largest.label,
            objects=tuple((pasted.label, pasted.box) for pasted in objects),
            mask=mask,
        )

    def interventions(self, index: int) -> tuple[StoredPart, ...]:
        """Return the objects, each with the image without it, and the ground.

        The ground has other photographs as grounds, resized to its size.
        """
        ground = self._ground(index)
        objects = self._objects(index)
        regions = [_region(pasted, (ground.height, ground.width)) for pasted in objects]
        parts = []
        for pasted, region in zip(objects, regions, strict=True):
            without = _paste(ground, [other for other in objects if other is not pasted])
            name = self.class_names[pasted.label]
            parts.append(StoredPart(name, pasted.label, region, (without,)))
        bare_grounds = []
        for other in self.recipes[index].others:
            photograph = self.part(index, self.of.read, other).image
            bare_grounds.append(ImageOps.fit(photograph, ground.size))
        ground_part = StoredPart(
            name=GROUND,
            label=None,
            mask=~np.any(regions, axis=0),
            images=tuple(_paste(other_ground, objects) for other_ground in bare_grounds),
            bare=tuple(bare_grounds),
        )
        return (*parts, ground_part)

    def fingerprint(self, index: int, hashes: FileHashes | None = None) -> str:
        files = [self.of.fingerprint(used, hashes) for used in self.used(index)]
        return hashlib.sha256(repr((self.recipes[index], files)).encode()).hexdigest()

    def used(self, index: int) -> tuple[int, ...]:
        recipe = self.recipes[index]
        return recipe.ground, *(cut_out.index for cut_out in recipe.objects), *recipe.others

    def _recipe(self, number: int, count: int, cut_outs: Sequence[CutOut]) -> Recipe:
        """Draw the parts of an image.

        Its grounds show none of the objects' classes, as far as their labels say. Raise BenchError
        if there are too few grounds and objects.
        """
        # The order of the calls of `chance` decides every image: don't change it.
        chance = np.random.default_rng([self.seed, number])
        all_classes = {cut_out.label for cut_out in cut_outs}
        labelled = [index for index, labels in enumerate(self._labels) if labels]
        for ground in chance.permutation(labelled):
            classes = sorted(all_classes - self._labels[ground])
            if len(classes) < count:
                continue
            chosen = [int(label) for label in chance.choice(classes, count, replace=False)]
            candidates = [
                index
                for index, labels in enumerate(self._labels)
                if labels and index != ground and not labels.intersection(chosen)
            ]
            if len(candidates) < GROUNDS:
                continue
            objects = []
            for label in chosen:
                same_class = [cut_out for cut_out in cut_outs if cut_out.label == label]
                objects.append(same_class[chance.integers(len(same_class))])
            other_grounds = tuple(
                int(index) for index in chance.choice(candidates, GROUNDS, replace=False)
            )
            places = tuple((float(x), float(y)) for x, y in chance.random((count, 2)))
            return Recipe(int(ground), tuple(objects), other_grounds, places)
        class_count = len(all_classes)
        raise BenchError(
            f"No image can be pasted: {plural(len(self.of), 'image')} of {self.of.name!r} with "
            f"{plural(len(cut_outs), 'whole object')} of {plural(class_count, 'class')} with a "
            f"mask of {LEAST} pixels or more. Each image takes {count} objects and {1 + GROUNDS} "
            "grounds of other classes: give data.of more images with masks, or lower data.objects."
        )

    def _ground(self, index: int) -> Image.Image:
        """Return the photograph of the ground."""
        image: Image.Image = self.part(index, self.of.read, self.recipes[index].ground).image
        return image

    def _objects(self, index: int) -> list[Pasted]:
        """Return the objects from left to right, each in its column of the image."""
        recipe = self.recipes[index]
        ground = self._ground(index)
        column_width = ground.width // len(recipe.objects)
        pasted = []
        for column, (cut_out, (across, down)) in enumerate(
            zip(recipe.objects, recipe.places, strict=True)
        ):
            sample = self.part(index, self.of.read, cut_out.index)
            if sample.mask is None:
                raise BadImage(self.ids[index], f"the mask of {sample.image_id} can't be read")
            x0, y0, x1, y1 = cut_out.box
            # as large as its column allows, without enlarging its pixels much
            widest = WIDTH * column_width / (x1 - x0)
            highest = HEIGHT * ground.height / (y1 - y0)
            scale = min(widest, highest, LARGEST)
            width = max(1, round(scale * (x1 - x0)))
            height = max(1, round(scale * (y1 - y0)))
            size = (width, height)
            shape = _largest(sample.mask == cut_out.label)[y0:y1, x0:x1]
            left = column * column_width + round(across * (column_width - width))
            top = round(down * (ground.height - height))
            picture = sample.image.crop(cut_out.box).resize(size, Image.Resampling.BICUBIC)
            opacity = _feathered(Image.fromarray(shape).resize(size, Image.Resampling.NEAREST))
            box = (left, top, left + width, top + height)
            pasted.append(Pasted(cut_out.label, picture, opacity, box))
        return pasted


def _cut_outs(dataset: DataSet, index: int) -> list[CutOut]:
    """Return the objects of an image that can be cut out.

    They are the largest region of each labelled class in the mask. There are none if the image or
    its mask can't be read or is missing.
    """
    try:
        mask = dataset.read(index).mask
    except BadImage:  # if it is a ground, its own rows report it
        return []
    if mask is None:
        return []
    cut_outs = []
    for label in dataset.labels(index):
        region = _largest(mask == label)
        if _is_object(region):
            cut_outs.append(CutOut(index, label, _box(region)))
    return cut_outs


def _is_object(region: NDArray[np.bool_]) -> bool:
    """Return whether a region is large enough, without large holes, and within the margin."""
    if region.sum() < LEAST:
        return False
    x0, y0, x1, y1 = _box(region)
    height, width = region.shape
    is_whole = x0 >= MARGIN and y0 >= MARGIN and x1 <= width - MARGIN and y1 <= height - MARGIN
    return bool(is_whole and region.sum() >= FULL * (x1 - x0) * (y1 - y0))


def _largest(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the largest region of pixels that touch, the first of equals."""
    numbers, count = ndimage.label(mask)
    if not count:
        return mask
    sizes = np.bincount(numbers.ravel())[1:]  # without the pixels of no region, number 0
    largest: NDArray[np.bool_] = numbers == 1 + int(np.argmax(sizes))
    return largest


def _box(mask: NDArray[np.bool_]) -> Box:
    """Return x0, y0, x1, y1 around the pixels of a mask."""
    rows, columns = ndimage.find_objects(mask.astype(np.int8))[0]
    return columns.start, rows.start, columns.stop, rows.stop


def _feathered(shape: Image.Image) -> Image.Image:
    """Return a mask as opacity, which fades within the outline: no pixel beyond it is changed."""
    padded = ImageOps.expand(shape.convert("L"), FEATHER)  # the image's edge is an outline, too
    shrunk = padded.filter(ImageFilter.MinFilter(2 * FEATHER + 1))
    soft = shrunk.filter(ImageFilter.GaussianBlur(FEATHER / 2))
    inside = Image.composite(soft, Image.new("L", padded.size), padded)
    return ImageOps.crop(inside, FEATHER)


def _paste(ground: Image.Image, objects: Sequence[Pasted]) -> Image.Image:
    """Return the ground with the objects on it."""
    image = ground.copy()
    for pasted in objects:
        image.paste(pasted.picture, pasted.box, pasted.opacity)
    return image


def _region(pasted: Pasted, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return the pixels that an object changes, of an image of this shape."""
    region = np.zeros(shape, dtype=bool)
    x0, y0, x1, y1 = pasted.box
    region[y0:y1, x0:x1] = np.asarray(pasted.opacity) > 0
    return region
