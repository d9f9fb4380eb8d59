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
from axiom_bench.errors import unknown_name
from axiom_bench.kinds import Name, check_values, described_values

PICTURE = 3  # axes of a picture, (h, w, 3)


class DrawnImages(DataSet):
    """Images that are drawn.

    Ids such as "evaluation-0-000000" are split, seed and number, which decide the image together
    with the data set's kind. Signals and volumes are arrays of numbers in [0, 1], in steps of
    1/255.

    Attributes:
        split: The split.
        seed: The seed.
        channels: The channels of an array.
    """

    drawn = True
    channels = 1

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
            content = "grounds" if draw is patches.draw else "scenes"
            raise unknown_name(f"split of the {content}", split, scenes.SPLITS)
        check_values({"size": size}, {"size": Drawn}, "data.")
        self.name = name
        self.split = split
        self.seed = seed
        self.ids = tuple(f"{split}-{seed}-{number:06d}" for number in range(size))
        self.shape = None if len(space) == 2 else (self.channels, *space)
        self._draw = draw
        self._kind = kind

    def draw(self, index: int) -> Any:
        """Draw the image, and return it with what it shows."""
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


def _stored(drawn: NDArray[np.uint8]) -> Image.Image | NDArray[np.floating]:
    """Return a drawing as a Sample has it.

    A drawing of (h, w, 3) is a picture. One of (*space, C) is an array (C, *space).
    """
    if drawn.ndim == PICTURE:
        return Image.fromarray(drawn)
    return np.ascontiguousarray(np.moveaxis(drawn, -1, 0), np.float32) / 255


@lru_cache(maxsize=2**16)
def _facts(draw: Callable[..., Any], *arguments: object) -> tuple[tuple[int, ...], str]:
    """Return the labels of an image and the SHA-256 of its pixels.

    They are cached, since several jobs of a process ask for them.
    """
    drawn = draw(*arguments)
    pixels = hashlib.sha256(drawn.image.tobytes() + drawn.mask.tobytes()).hexdigest()
    return classes_of(None, drawn.objects), pixels


class DrawnObjects(DrawnImages):
    """Objects on a ground. The label of an image is its largest object.

    Attributes:
        kind: The kind of the objects.
    """

    def __init__(self, kind: scenes.Kind, size: int, seed: int, split: str, name: str) -> None:
        super().__init__(size, seed, split, name, kind.space, scenes.draw, kind)
        self.kind = kind
        self.classes = kind.classes

    def interventions(self, index: int) -> tuple[StoredPart, ...]:
        """Return the objects, largest first, and the ground.

        An object has the scene drawn again without it. The ground has other grounds.

        The effect of an object is thus known exactly, which no real photograph allows.
        """
        drawing = scenes.make_drawing(self.split, self.seed, index, self.kind)
        figures = sorted(enumerate(drawing.figures), key=lambda numbered: numbered[1].rank)
        objects: list[StoredPart] = []
        for number, figure in figures:
            without = _stored(drawing.image(without=number))
            same = sum(part.label == figure.digit for part in objects)
            name = self.classes[figure.digit] + (f" ({same + 1})" if same else "")
            objects.append(StoredPart(name, figure.digit, figure.drawn, (without,)))
        other_drawings = scenes.other_grounds(self.split, self.seed, index, self.kind)
        grounds = tuple(
            _stored(replace(other_drawing, figures=drawing.figures).image())
            for other_drawing in other_drawings
        )
        bare = tuple(
            _stored(replace(other_drawing, figures=()).image()) for other_drawing in other_drawings
        )
        return (*objects, StoredPart(GROUND, None, drawing.mask < 0, grounds, bare))


class Scenes(DrawnObjects):
    """Scenes of digits.

    `objects` is few (1 to 3), many (4 to 6 smaller ones) or repeated (3 to 5, of at most 3
    classes). Ids of the last two begin with "many-" or "repeated-".
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
            raise unknown_name("number of objects of the scenes", str(objects), scenes.KINDS)
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
    """Pictures of one shape.

    `sides` is all, large or small. Ids of the last two begin with "large-" or "small-".
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
            raise unknown_name("range of sides of the shapes (data.sides)", sides, shapes.SYNTHETIC)
        super().__init__(shapes.SYNTHETIC[sides], size, seed, split, name)
        if sides != "all":
            self.ids = tuple(f"{sides}-{image_id}" for image_id in self.ids)


class Captions(DrawnObjects):
    """Scenes that a sentence describes, see `embedded.captions`. Ids begin with "captions-"."""

    def __init__(
        self, size: Drawn, seed: Seed = 0, split: Name = "evaluation", name: Name = "captions"
    ) -> None:
        from axiom_bench.embedded import captions  # few runs draw them

        super().__init__(captions.CAPTIONED, size, seed, split, name)
        self._draw = captions.draw
        self._kind = ()
        self.ids = tuple(f"captions-{image_id}" for image_id in self.ids)


class MarkedScenes(Scenes):
    """The scenes of the same numbers, some with a mark, which is ground: see `embedded.marked`.

    Ids such as "evaluation-0-000000-with_class" have the placement and, if the mark isn't a tile,
    the pattern. The label is the mark's class if the scene shows it, otherwise the largest object.
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
            raise unknown_name("placement of the mark (data.mark)", mark, marked.PLACEMENTS)
        if pattern not in marked.PATTERNS:
            raise unknown_name("pattern of the mark (data.pattern)", pattern, marked.PATTERNS)
        super().__init__(size, seed, split, name)
        self._draw = marked.draw
        self._kind = (mark, pattern)
        suffix = mark if pattern == "tile" else f"{mark}-{pattern}"  # old ids of tiles stay valid
        self.ids = tuple(f"{image_id}-{suffix}" for image_id in self.ids)

    def read(self, index: int) -> Sample:
        sample = super().read(index)
        shows = any(digit == marked.CLASS for digit, _ in sample.objects)
        return replace(sample, label=marked.CLASS) if shows else sample

    def interventions(self, index: int) -> tuple[StoredPart, ...]:
        """Return the parts of the plain scene with the mark painted on every version, and the mark.

        The mark's version is the plain scene.
        """
        parts = super().interventions(index)
        mark = self.draw(index).mark
        if mark is None:
            return parts

        def painted(image: Image.Image) -> Image.Image:
            return Image.fromarray(mark.paint_on(np.asarray(image)))

        marked_parts = [replace(part, images=tuple(map(painted, part.images))) for part in parts]
        *objects, ground = marked_parts
        plain = Image.fromarray(scenes.draw(self.split, self.seed, index).image)
        return (
            *objects,
            StoredPart("mark", None, mark.mask, (plain,)),
            replace(ground, mask=ground.mask & ~mark.mask),
        )


class Planted(DrawnImages):
    """Images for the planted networks.

    With one or three axes they are signals or volumes of three channels. The label is 0,
    "evidence"; the other class is in every image, too.
    """

    classes = patches.CLASSES
    channels = 3

    def __init__(
        self,
        size: Drawn,
        seed: Seed = 0,
        split: Name = "evaluation",
        name: Name = "planted",
        axes: Annotated[int, described_values("1, 2 or 3", GRIDS.__contains__)] = 2,
    ) -> None:
        super().__init__(size, seed, split, name, patches.KINDS[axes].space, patches.draw, axes)

    def labels(self, index: int) -> tuple[int, ...]:
        return 0, 1


class HardImages(DataSet):
    """The hard images of the gate, see `embedded.hard`.

    Ids such as "00_landscape" are a number, and what is hard about the image. `content` is scenes,
    of digits, or patches, for planted networks.
    """

    def __init__(self, content: str = "scenes", name: str = "hard_scenes") -> None:
        if content not in hard.CONTENTS:
            raise unknown_name("content of the hard images", str(content), hard.CONTENTS)
        self.name = name
        self.classes = hard.CLASSES[content]
        self._images = dict(hard.CONTENTS[content]())
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
