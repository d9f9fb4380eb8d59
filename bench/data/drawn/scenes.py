"""The embedded scenes as a data set: drawn when they are read, so that nothing is downloaded or stored."""

from __future__ import annotations

import hashlib
from functools import lru_cache

from PIL import Image

from axiom_bench.cutting.interventions import GROUND
from axiom_bench.data.base import DRAWN, DataSet, Drawn, Sample, Seed
from axiom_bench.data.file_hashes import FileHashes
from axiom_bench.data.interventions import StoredPart
from axiom_bench.embedded import scenes
from axiom_bench.errors import unknown
from axiom_bench.kinds import Name, check_values


class Scenes(DataSet):
    """ids: "evaluation-0-000000": split, seed and number, all that a scene depends on. label: the largest object.

    objects: few (1 to 3) or many (4 to 6 smaller ones, whose ids begin with "many-").
    """

    classes = scenes.CLASSES
    drawn = True

    def __init__(
        self,
        size: Drawn,
        seed: Seed = 0,
        split: Name = "evaluation",
        name: Name = "scenes",
        objects: Name = "few",
    ) -> None:
        if split not in scenes.SPLITS:
            raise unknown("split of the scenes", split, scenes.SPLITS)
        check_values({"size": size}, DRAWN, "data.")
        if objects not in scenes.KINDS:
            raise unknown("number of objects of the scenes", str(objects), scenes.KINDS)
        self.name, self.split, self.seed, self.kind = name, split, seed, scenes.KINDS[objects]
        prefix = split if self.kind is scenes.FEW else f"{objects}-{split}"
        self.ids = tuple(f"{prefix}-{seed}-{number:06d}" for number in range(size))

    def draw(self, index: int) -> scenes.Scene:
        """The scene as drawn."""
        return scenes.draw(self.split, self.seed, index, self.kind)

    def read(self, index: int) -> Sample:
        scene = self.draw(index)
        return Sample(Image.fromarray(scene.image), self.ids[index], scene.label, scene.objects, scene.mask)

    def interventions(self, index: int) -> tuple[StoredPart, ...]:
        """The objects, largest first, each with the scene drawn again without it; the ground with other grounds."""
        drawing = scenes.drawing_of(self.split, self.seed, index, self.kind)
        order = sorted(range(len(drawing.figures)), key=lambda number: drawing.rank(number))
        objects = [
            StoredPart(
                self.classes[drawing.figures[number].digit],
                drawing.figures[number].digit,
                drawing.figures[number].drawn,
                (Image.fromarray(drawing.image(without=number)),),
            )
            for number in order
        ]
        grounds = tuple(map(Image.fromarray, scenes.other_grounds(self.split, self.seed, index, self.kind)))
        return (*objects, StoredPart(GROUND, None, drawing.mask < 0, grounds))

    def versions(self, index: int) -> int:
        return len(self.labels(index)) + scenes.GROUNDS

    def labels(self, index: int) -> tuple[int, ...]:
        return _facts(self.split, self.seed, index, self.kind)[0]

    def fingerprint(self, index: int, hashes: FileHashes | None = None) -> str:
        return _facts(self.split, self.seed, index, self.kind)[1]


@lru_cache(maxsize=2**16)
def _facts(split: str, seed: int, number: int, kind: scenes.Kind) -> tuple[tuple[int, ...], str]:
    """(labels, SHA-256 of the pixels) of a scene: several jobs of a process ask for them, and each has to draw it."""
    scene = scenes.draw(split, seed, number, kind)
    labels = tuple(sorted(digit for digit, _ in scene.objects))
    return labels, hashlib.sha256(scene.image.tobytes() + scene.mask.tobytes()).hexdigest()
