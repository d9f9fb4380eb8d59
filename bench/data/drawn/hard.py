"""The gate's hard images as a data set: see `embedded.hard`."""

from __future__ import annotations

from io import BytesIO

from axiom_bench.data.base import DataSet, Sample
from axiom_bench.data.file_hashes import FileHashes
from axiom_bench.data.formats.decoding import open_rgb, sha256_of
from axiom_bench.embedded import hard
from axiom_bench.errors import unknown


class HardImages(DataSet):
    """ids: "00_landscape": a number, and what is hard. content: scenes, of digits, or patches, for planted networks."""

    def __init__(self, content: str = "scenes", name: str = "hard_scenes") -> None:
        if content not in hard.CONTENTS:
            raise unknown("content of the hard images", str(content), hard.CONTENTS)
        self.name, self.classes, self._images = name, hard.CLASSES[content], hard.CONTENTS[content]()
        self.ids = tuple(self._images)

    def read(self, index: int) -> Sample:
        image_id = self.ids[index]
        stored = self._images[image_id]
        picture = open_rgb(BytesIO(stored.content), image_id)
        return Sample(picture, image_id, stored.label, stored.objects, stored.mask)

    def labels(self, index: int) -> tuple[int, ...]:
        stored = self._images[self.ids[index]]
        own = () if stored.label is None else (stored.label,)
        return tuple(sorted({*own, *(label for label, _ in stored.objects)}))

    def fingerprint(self, index: int, hashes: FileHashes | None = None) -> str:
        stored = self._images[self.ids[index]]
        mask = None if stored.mask is None else stored.mask.tobytes()
        return sha256_of([stored.content, repr((stored.label, stored.objects)).encode(), mask])
