"""Images for the planted networks as a data set: drawn when they are read, as the scenes are."""

from __future__ import annotations

import hashlib
from functools import lru_cache

from PIL import Image

from axiom_bench.data.base import DRAWN, DataSet, Drawn, Sample, Seed
from axiom_bench.data.file_hashes import FileHashes
from axiom_bench.embedded.planted import patches
from axiom_bench.embedded.scenes import SPLITS
from axiom_bench.errors import unknown
from axiom_bench.kinds import Name, check_values


class Planted(DataSet):
    """ids: "evaluation-0-000000": split, seed and number, all that an image depends on. label: 0, "evidence"."""

    classes = patches.CLASSES
    drawn = True

    def __init__(self, size: Drawn, seed: Seed = 0, split: Name = "evaluation", name: Name = "planted") -> None:
        if split not in SPLITS:
            raise unknown("split of the grounds", split, SPLITS)
        check_values({"size": size}, DRAWN, "data.")
        self.name, self.split, self.seed = name, split, seed
        self.ids = tuple(f"{split}-{seed}-{number:06d}" for number in range(size))

    def draw(self, index: int) -> patches.PatchImage:
        """The image as drawn, with its patches."""
        return patches.draw(self.split, self.seed, index)

    def read(self, index: int) -> Sample:
        drawn = self.draw(index)
        objects = tuple((patch.label, patch.box) for patch in drawn.patches)
        return Sample(Image.fromarray(drawn.image), self.ids[index], 0, objects, drawn.mask)

    def labels(self, index: int) -> tuple[int, ...]:
        return 0, 1

    def fingerprint(self, index: int, hashes: FileHashes | None = None) -> str:
        return _sha256(self.split, self.seed, index)


@lru_cache(maxsize=2**16)
def _sha256(split: str, seed: int, number: int) -> str:
    """Of the pixels of an image: several jobs of a process ask for it, and each would have to draw it."""
    drawn = patches.draw(split, seed, number)
    return hashlib.sha256(drawn.image.tobytes() + drawn.mask.tobytes()).hexdigest()
