"""Objects cut out of photographs by their masks, on the ground of another: photographs whose parts'
effects are known.

An image has a ground, a photograph, and objects beside each other on it, each of another class that
the ground isn't labelled with. So the image without an object is the same photograph with its
ground there instead, pixel by pixel. A network wasn't trained on such images; its effects on them
are exact all the same.
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
    Drawn,
    FileHashes,
    MadeOf,
    Sample,
    Seed,
    StoredPart,
)
from axiom_bench.errors import BenchError
from axiom_bench.kinds import Name, whole

MAX_OBJECTS = 4
LEAST, FULL, MARGIN = (
    64 * 64,
    0.4,
    5,
)  # of an object that is cut out: pixels, share of its box, pixels to the edge
WIDTH, HEIGHT = (
    0.8,
    0.7,
)  # most of its place that an object takes; the places are side by side, as high as the image
LARGEST = 2.0  # how much an object is enlarged at most
FEATHER = 2  # pixels within an object's outline where it fades into the ground
GROUNDS = 3  # other grounds of an image
Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class CutOut:
    """An object in a data set's image. index: the image's place. box: x0, y0, x1, y1 around it, x1
    and y1 exclusive.
    """

    index: int
    label: int
    box: Box


@dataclass(frozen=True)
class Recipe:
    """What an image is made of. ground, others: places of images in the data set. places: for each
    object where in its room it stands, from left and top, 0 to 1.
    """

    ground: int
    objects: tuple[CutOut, ...]
    others: tuple[int, ...]
    places: tuple[tuple[float, float], ...]


@dataclass(frozen=True, eq=False)
class Pasted:
    """An object as it is pasted. opacity: L, of the picture's size; 0 is none of it."""

    label: int
    picture: Image.Image
    opacity: Image.Image
    box: Box


class PastedImages(MadeOf):
    """ids: "000007: ground.jpg | first.jpg | second.jpg", a number, and the images that it is made
    of.

    of: the data set of grounds and objects; it has masks, and each image's classes. Its images are
    read once, since an object is chosen by its mask: a class's largest region there, where that is
    large, fills its box and is whole. objects: in an image, from left to right, each of another
    class. label: the class of the largest one. The ground is of no class in boxes and mask,
    whatever it shows. seed: decides each image by its number alone. Raises BenchError where `of`
    has too few masks or classes.
    """

    drawn = True

    def __init__(
        self,
        of: DataSet,
        size: Drawn,
        objects: Annotated[int, whole(1, "objects in an image", MAX_OBJECTS)] = 2,
        seed: Seed = 0,
        name: Name = "pasted",
    ) -> None:
        super().__init__(of, name)
        self.seed = seed
        self._labels = [frozenset(of.labels(index)) for index in range(len(of))]
        cut_outs = [each for index in range(len(of)) for each in _cut_outs(of, index)]
        self.recipes = tuple(self._recipe(number, objects, cut_outs) for number in range(size))
        made = (
            [recipe.ground, *(each.index for each in recipe.objects)] for recipe in self.recipes
        )
        names = (" | ".join(of.ids[index] for index in indices) for indices in made)
        self.ids = tuple(f"{number:06d}: {joined}" for number, joined in enumerate(names))

    def labels(self, index: int) -> tuple[int, ...]:
        return tuple(sorted(each.label for each in self.recipes[index].objects))

    def read(self, index: int) -> Sample:
        ground, pasted = self._ground(index), self._objects(index)
        mask = np.full((ground.height, ground.width), BACKGROUND)
        for each in pasted:
            mask[_region(each, mask.shape)] = each.label
        objects = tuple((each.label, each.box) for each in pasted)
        label = max(pasted, key=lambda each: each.picture.width * each.picture.height).label
        return Sample(_put(ground, pasted), self.ids[index], label, objects, mask)

    def interventions(self, index: int) -> tuple[StoredPart, ...]:
        """The objects, each with the image without it; the ground with those of other photographs,
        resized to it.
        """
        ground, pasted, recipe = self._ground(index), self._objects(index), self.recipes[index]
        regions = [_region(each, (ground.height, ground.width)) for each in pasted]
        parts = []
        for each, region in zip(pasted, regions, strict=True):
            without = _put(ground, [other for other in pasted if other is not each])
            parts.append(StoredPart(self.class_names[each.label], each.label, region, (without,)))
        grounds = (self.part(index, self.of.read, other).image for other in recipe.others)
        others = tuple(ImageOps.fit(other, ground.size) for other in grounds)
        rest = ~np.any(regions, axis=0)
        return (
            *parts,
            StoredPart(GROUND, None, rest, tuple(_put(other, pasted) for other in others), others),
        )

    def fingerprint(self, index: int, hashes: FileHashes | None = None) -> str:
        files = [self.of.fingerprint(used, hashes) for used in self.used(index)]
        return hashlib.sha256(repr((self.recipes[index], files)).encode()).hexdigest()

    def used(self, index: int) -> tuple[int, ...]:
        recipe = self.recipes[index]
        return recipe.ground, *(each.index for each in recipe.objects), *recipe.others

    def _recipe(self, number: int, count: int, cut_outs: Sequence[CutOut]) -> Recipe:
        """Grounds that show none of the objects' classes, as far as their labels say."""
        chance = np.random.default_rng([self.seed, number])
        for ground in chance.permutation(
            [place for place, labels in enumerate(self._labels) if labels]
        ):
            classes = sorted({each.label for each in cut_outs} - self._labels[ground])
            if len(classes) < count:
                continue
            chosen = [int(label) for label in chance.choice(classes, count, replace=False)]
            others = [
                place
                for place, labels in enumerate(self._labels)
                if labels and place != ground and not labels.intersection(chosen)
            ]
            if len(others) < GROUNDS:
                continue
            of_class = ([each for each in cut_outs if each.label == label] for label in chosen)
            objects = tuple(each[chance.integers(len(each))] for each in of_class)
            drawn = tuple(int(place) for place in chance.choice(others, GROUNDS, replace=False))
            places = tuple((float(x), float(y)) for x, y in chance.random((count, 2)))
            return Recipe(int(ground), objects, drawn, places)
        class_count = len({each.label for each in cut_outs})
        raise BenchError(
            f"No image can be pasted: {len(self.of)} images of {self.of.name!r} have "
            f"{len(cut_outs)} whole objects of {class_count} classes with a mask of {LEAST} "
            f"pixels or more. Each image takes {count} objects and {1 + GROUNDS} grounds of other "
            "classes: give data.of more images with masks, or lower data.objects."
        )

    def _ground(self, index: int) -> Image.Image:
        return self.part(index, self.of.read, self.recipes[index].ground).image

    def _objects(self, index: int) -> list[Pasted]:
        """The objects from left to right, each in its room: a column of the image."""
        recipe, ground = self.recipes[index], self._ground(index)
        room = ground.width // len(recipe.objects)
        pasted = []
        for column, (cut_out, (across, down)) in enumerate(
            zip(recipe.objects, recipe.places, strict=True)
        ):
            sample = self.part(index, self.of.read, cut_out.index)
            if sample.mask is None:
                raise BadImage(self.ids[index], f"the mask of {sample.image_id} can't be read")
            x0, y0, x1, y1 = cut_out.box
            scale = min(WIDTH * room / (x1 - x0), HEIGHT * ground.height / (y1 - y0), LARGEST)
            size = max(1, round(scale * (x1 - x0))), max(1, round(scale * (y1 - y0)))
            shape = _largest(sample.mask == cut_out.label)[y0:y1, x0:x1]
            left = column * room + round(across * (room - size[0]))
            top = round(down * (ground.height - size[1]))
            picture = sample.image.crop(cut_out.box).resize(size, Image.Resampling.BICUBIC)
            opacity = _feathered(Image.fromarray(shape).resize(size, Image.Resampling.NEAREST))
            pasted.append(
                Pasted(cut_out.label, picture, opacity, (left, top, left + size[0], top + size[1]))
            )
        return pasted


def _cut_outs(of: DataSet, index: int) -> list[CutOut]:
    """The largest region of each labelled class in the mask of an image, where it is an object that
    can be cut out. None where the image or its mask can't be read, or there is none.
    """
    try:
        mask = of.read(index).mask
    except BadImage:  # its own rows say so, where it is a ground
        return []
    regions = (
        [] if mask is None else [(label, _largest(mask == label)) for label in of.labels(index)]
    )
    return [CutOut(index, label, _box(region)) for label, region in regions if _is_object(region)]


def _is_object(region: NDArray[np.bool_]) -> bool:
    """Whether a region is large enough, isn't full of holes, and isn't cut off by the image's
    edge.
    """
    if region.sum() < LEAST:
        return False
    (x0, y0, x1, y1), (height, width) = _box(region), region.shape
    whole = x0 >= MARGIN and y0 >= MARGIN and x1 <= width - MARGIN and y1 <= height - MARGIN
    return bool(whole and region.sum() >= FULL * (x1 - x0) * (y1 - y0))


def _largest(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The largest region of pixels that touch, the first of equals."""
    numbers, count = ndimage.label(mask)
    largest: NDArray[np.bool_] = (
        numbers == 1 + int(np.argmax(np.bincount(numbers.ravel())[1:])) if count else mask
    )
    return largest


def _box(mask: NDArray[np.bool_]) -> Box:
    rows, columns = ndimage.find_objects(mask.astype(np.int8))[0]
    return columns.start, rows.start, columns.stop, rows.stop


def _feathered(shape: Image.Image) -> Image.Image:
    """A mask as opacity, which fades within the outline: beyond it no pixel is touched."""
    padded = ImageOps.expand(shape.convert("L"), FEATHER)  # the image's edge is an outline too
    soft = padded.filter(ImageFilter.MinFilter(2 * FEATHER + 1)).filter(
        ImageFilter.GaussianBlur(FEATHER / 2)
    )
    inside = Image.composite(soft, Image.new("L", padded.size), padded)
    return ImageOps.crop(inside, FEATHER)


def _put(ground: Image.Image, pasted: Sequence[Pasted]) -> Image.Image:
    image = ground.copy()
    for each in pasted:
        image.paste(each.picture, each.box, each.opacity)
    return image


def _region(pasted: Pasted, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """The pixels that an object changes."""
    region = np.zeros(shape, dtype=bool)
    x0, y0, x1, y1 = pasted.box
    region[y0:y1, x0:x1] = np.asarray(pasted.opacity) > 0
    return region
