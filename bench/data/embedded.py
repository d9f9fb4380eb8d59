"""The data sets of `bench/embedded`, drawn when they are read: nothing is downloaded or stored."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from io import BytesIO
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from axiom_bench.cutting.interventions import GROUND
from axiom_bench.data.base import DataSet, Drawn, FileHashes, Sample, Seed, StoredPart, classes_of
from axiom_bench.data.formats.decoding import open_rgb, sha256_of
from axiom_bench.embedded import hard, marked, patches, scenes, shapes
from axiom_bench.embedded.planted import GRIDS
from axiom_bench.errors import unknown
from axiom_bench.kinds import Name, check_values, worded

PICTURE = 3  # axes of one, (h, w, 3)


class DrawnImages(DataSet):
    """ids: "evaluation-0-000000": split, seed and number, which decide the image together with the
    data set's kind.

    Signals and volumes are arrays of numbers in [0, 1], in steps of 1/255.
    """

    drawn = True
    channels = 1  # of an array

    def __init__(
        self,
        size: int,
        seed: int,
        split: str,
        name: str,
        space: tuple[int, ...],
        draw: Callable[..., Any],
        *kind: object,
    ) -> None:
        if split not in scenes.SPLITS:
            raise unknown(
                f"split of the {'grounds' if draw is patches.draw else 'scenes'}",
                split,
                scenes.SPLITS,
            )
        check_values({"size": size}, {"size": Drawn}, "data.")
        self.name, self.split, self.seed = name, split, seed
        self.ids = tuple(f"{split}-{seed}-{number:06d}" for number in range(size))
        self.shape = None if len(space) == 2 else (self.channels, *space)
        self._draw, self._kind = draw, kind

    def draw(self, index: int) -> Any:
        """The image as drawn, with what it shows."""
        return self._draw(self.split, self.seed, index, *self._kind)

    def read(self, index: int) -> Sample:
        drawn = self.draw(index)
        return Sample(_stored(drawn.image), self.ids[index], drawn.label, drawn.objects, drawn.mask)

    def labels(self, index: int) -> tuple[int, ...]:
        return self._facts(index)[0]

    def fingerprint(self, index: int, hashes: FileHashes | None = None) -> str:
        return self._facts(index)[1]

    def _facts(self, index: int) -> tuple[tuple[int, ...], str]:
        return _facts(self._draw, self.split, self.seed, index, *self._kind)


def _stored(drawn: NDArray[np.uint8]) -> Any:
    """What is drawn, as a Sample has it: a picture of (h, w, 3), of (*space, C) else an array (C,
    *space).
    """
    if drawn.ndim == PICTURE:
        return Image.fromarray(drawn)
    return np.ascontiguousarray(np.moveaxis(drawn, -1, 0), np.float32) / 255


@lru_cache(maxsize=2**16)
def _facts(draw: Callable[..., Any], *which: object) -> tuple[tuple[int, ...], str]:
    """(labels, SHA-256 of the pixels) of an image: several jobs of a process ask for them."""
    drawn = draw(*which)
    pixels = hashlib.sha256(drawn.image.tobytes() + drawn.mask.tobytes()).hexdigest()
    return classes_of(None, drawn.objects), pixels


class DrawnObjects(DrawnImages):
    """Objects on a ground. label: the largest object."""

    def __init__(self, kind: scenes.Kind, size: int, seed: int, split: str, name: str) -> None:
        super().__init__(size, seed, split, name, kind.space, scenes.draw, kind)
        self.kind, self.classes = kind, kind.classes

    def interventions(self, index: int) -> tuple[StoredPart, ...]:
        """The objects, largest first, each with the scene drawn again without it; the ground with
        other grounds.
        """
        drawing = scenes.drawing_of(self.split, self.seed, index, self.kind)
        objects: list[StoredPart] = []
        for number, figure in sorted(
            enumerate(drawing.figures), key=lambda numbered: numbered[1].rank
        ):
            without = _stored(drawing.image(without=number))
            same = sum(part.label == figure.digit for part in objects)
            name = self.classes[figure.digit] + (f" ({same + 1})" if same else "")
            objects.append(StoredPart(name, figure.digit, figure.drawn, (without,)))
        others = scenes.other_grounds(self.split, self.seed, index, self.kind)
        grounds, bare = (
            tuple(_stored(replace(other, figures=figures).image()) for other in others)
            for figures in (drawing.figures, ())
        )
        return (*objects, StoredPart(GROUND, None, drawing.mask < 0, grounds, bare))


class Scenes(DrawnObjects):
    """objects: few (1 to 3), many (4 to 6 smaller ones) or repeated (3 to 5, of at most 3 classes).
    ids begin with "many-" or "repeated-".
    """

    def __init__(
        self,
        size: Drawn,
        seed: Seed = 0,
        split: Name = "evaluation",
        name: Name = "scenes",
        objects: Name = "few",
    ) -> None:
        if objects not in scenes.KINDS:
            raise unknown("number of objects of the scenes", str(objects), scenes.KINDS)
        super().__init__(scenes.KINDS[objects], size, seed, split, name)
        if self.kind is not scenes.FEW:
            self.ids = tuple(f"{objects}-{image_id}" for image_id in self.ids)


class Signals(DrawnObjects):
    """Motifs in noise: arrays (1, 192)."""

    def __init__(
        self, size: Drawn, seed: Seed = 0, split: Name = "evaluation", name: Name = "signals"
    ) -> None:
        super().__init__(shapes.SIGNALS, size, seed, split, name)


class Volumes(DrawnObjects):
    """Solids in noise: arrays (1, 24, 24, 24)."""

    def __init__(
        self, size: Drawn, seed: Seed = 0, split: Name = "evaluation", name: Name = "volumes"
    ) -> None:
        super().__init__(shapes.VOLUMES, size, seed, split, name)


class SyntheticShapes(DrawnObjects):
    """Pictures of one shape. sides: all, large or small. ids of the last two begin with "large-" or
    "small-".
    """

    def __init__(
        self,
        size: Drawn,
        seed: Seed = 0,
        split: Name = "evaluation",
        sides: Name = "all",
        name: Name = "synthetic_shapes",
    ) -> None:
        if sides not in shapes.SYNTHETIC:
            raise unknown("range of sides of the shapes (data.sides)", sides, shapes.SYNTHETIC)
        super().__init__(shapes.SYNTHETIC[sides], size, seed, split, name)
        if sides != "all":
            self.ids = tuple(f"{sides}-{image_id}" for image_id in self.ids)


class MarkedScenes(Scenes):
    """The scenes of the same numbers, some with a mark, which is ground: see `embedded.marked`.

    ids: "evaluation-0-000000-with_class", with the placement and, of another mark than a tile, the
    pattern. label: the mark's class where the scene shows it, else the largest object.
    """

    def __init__(
        self,
        size: Drawn,
        seed: Seed = 0,
        split: Name = "evaluation",
        mark: Name = "with_class",
        pattern: Name = "tile",
        name: Name = "scenes_marked",
    ) -> None:
        if mark not in marked.PLACEMENTS:
            raise unknown("placement of the mark (data.mark)", mark, marked.PLACEMENTS)
        if pattern not in marked.PATTERNS:
            raise unknown("pattern of the mark (data.pattern)", pattern, marked.PATTERNS)
        super().__init__(size, seed, split, name)
        self._draw, self._kind = marked.draw, (mark, pattern)
        which = mark if pattern == "tile" else f"{mark}-{pattern}"  # ids of tiles stay as they were
        self.ids = tuple(f"{image_id}-{which}" for image_id in self.ids)

    def read(self, index: int) -> Sample:
        sample = super().read(index)
        shows = any(digit == marked.CLASS for digit, _ in sample.objects)
        return replace(sample, label=marked.CLASS) if shows else sample

    def interventions(self, index: int) -> tuple[StoredPart, ...]:
        """Those of the plain scene, with the mark painted on every version, and the mark, whose
        version is the plain scene.
        """
        parts, mark = super().interventions(index), self.draw(index).mark
        if mark is None:
            return parts

        def painted(image: Image.Image) -> Image.Image:
            return Image.fromarray(mark.on(np.asarray(image)))

        *objects, ground = (
            replace(part, images=tuple(map(painted, part.images))) for part in parts
        )
        plain = Image.fromarray(scenes.draw(self.split, self.seed, index).image)
        return (
            *objects,
            StoredPart("mark", None, mark.mask, (plain,)),
            replace(ground, mask=ground.mask & ~mark.mask),
        )


class Planted(DrawnImages):
    """Images for the planted networks, or with one or three axes signals or volumes of three
    channels. label: 0, "evidence"; the other class is in every image too.
    """

    classes, channels = patches.CLASSES, 3

    def __init__(
        self,
        size: Drawn,
        seed: Seed = 0,
        split: Name = "evaluation",
        name: Name = "planted",
        axes: Annotated[int, worded("1, 2 or 3", GRIDS.__contains__)] = 2,
    ) -> None:
        super().__init__(size, seed, split, name, patches.KINDS[axes].space, patches.draw, axes)

    def labels(self, index: int) -> tuple[int, ...]:
        return 0, 1


class HardImages(DataSet):
    """The gate's hard images. ids: "00_landscape": a number, and what is hard. content: scenes, of
    digits, or patches, for planted networks.
    """

    def __init__(self, content: str = "scenes", name: str = "hard_scenes") -> None:
        if content not in hard.CONTENTS:
            raise unknown("content of the hard images", str(content), hard.CONTENTS)
        self.name, self.classes, self._images = (
            name,
            hard.CLASSES[content],
            dict(hard.CONTENTS[content]()),
        )
        self.ids = tuple(self._images)

    def read(self, index: int) -> Sample:
        image_id = self.ids[index]
        stored = self._images[image_id]
        picture = open_rgb(BytesIO(stored.content), image_id)
        return Sample(picture, image_id, stored.label, stored.objects, stored.mask)

    def labels(self, index: int) -> tuple[int, ...]:
        stored = self._images[self.ids[index]]
        return classes_of(stored.label, stored.objects)

    def fingerprint(self, index: int, hashes: FileHashes | None = None) -> str:
        stored = self._images[self.ids[index]]
        mask = None if stored.mask is None else stored.mask.tobytes()
        return sha256_of([stored.content, repr((stored.label, stored.objects)).encode(), mask])
