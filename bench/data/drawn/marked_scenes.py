"""The embedded scenes with a spurious mark as a data set."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import lru_cache

import numpy as np
from PIL import Image

from axiom_bench.data.base import Drawn, Sample, Seed
from axiom_bench.data.drawn.scenes import Scenes
from axiom_bench.data.file_hashes import FileHashes
from axiom_bench.data.interventions import StoredPart
from axiom_bench.embedded import marked, scenes
from axiom_bench.errors import unknown
from axiom_bench.kinds import Name


class MarkedScenes(Scenes):
    """The scenes of the same numbers, some with a mark: see `embedded.marked`.

    ids: "evaluation-0-000000-with_class": split, seed, number and placement. label: the mark's class where the scene
    shows it, else the largest object. The mark is ground: it is neither in the mask nor an object.
    """

    def __init__(
        self,
        size: Drawn,
        seed: Seed = 0,
        split: Name = "evaluation",
        mark: Name = "with_class",
        name: Name = "scenes_marked",
    ) -> None:
        if mark not in marked.PLACEMENTS:
            raise unknown("placement of the mark (data.mark)", mark, marked.PLACEMENTS)
        super().__init__(size, seed, split, name)
        self.mark = mark
        self.ids = tuple(f"{image_id}-{mark}" for image_id in self.ids)

    def draw(self, index: int) -> marked.MarkedScene:
        return marked.draw(self.split, self.seed, index, self.mark)

    def read(self, index: int) -> Sample:
        sample = super().read(index)
        shows = any(digit == marked.CLASS for digit, _ in sample.objects)
        return replace(sample, label=marked.CLASS) if shows else sample

    def interventions(self, index: int) -> tuple[StoredPart, ...]:
        """Those of the plain scene, with the mark painted on every version, and the mark, whose version is the plain
        scene."""
        parts = super().interventions(index)
        mark = self.draw(index).mark
        if mark is None:
            return parts
        *objects, ground = (
            replace(part, images=tuple(_painted(mark, image) for image in part.images)) for part in parts
        )
        plain = Image.fromarray(scenes.draw(self.split, self.seed, index).image)
        return (*objects, StoredPart("mark", None, mark.mask, (plain,)), replace(ground, mask=ground.mask & ~mark.mask))

    def versions(self, index: int) -> int:
        return super().versions(index) + _facts(self.split, self.seed, index, self.mark)[2]

    def labels(self, index: int) -> tuple[int, ...]:
        return _facts(self.split, self.seed, index, self.mark)[0]

    def fingerprint(self, index: int, hashes: FileHashes | None = None) -> str:
        return _facts(self.split, self.seed, index, self.mark)[1]


def _painted(mark: marked.Mark, image: Image.Image) -> Image.Image:
    return Image.fromarray(mark.on(np.asarray(image)))


@lru_cache(maxsize=2**16)
def _facts(split: str, seed: int, number: int, mark: str) -> tuple[tuple[int, ...], str, int]:
    """(labels, SHA-256 of the pixels, number of marks) of a scene."""
    scene = marked.draw(split, seed, number, mark)
    labels = tuple(sorted(digit for digit, _ in scene.objects))
    pixels = hashlib.sha256(scene.image.tobytes() + scene.mask.tobytes()).hexdigest()
    return labels, pixels, int(scene.mark is not None)
