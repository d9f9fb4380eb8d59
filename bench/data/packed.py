"""The base of data sets whose images lie as bytes in larger files: archives and tables."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path

from PIL import Image

from axiom_bench.data.base import BadImage, DataSet, Least, Sample
from axiom_bench.data.class_list import Classes, class_list
from axiom_bench.data.decoding import open_scaled, sha256_of
from axiom_bench.data.file_hashes import UNREADABLE, FileHashes
from axiom_bench.data.file_names import as_text
from axiom_bench.data.note import Note
from axiom_bench.data.reading import why
from axiom_bench.errors import BenchError


class PackedImages(DataSet):
    """A subclass gives each image's bytes and annotation."""

    def read(self, index: int) -> Sample:
        return self.read_scaled(index, None)

    def read_scaled(self, index: int, least: Least | None) -> Sample:
        image_id = self.ids[index]
        try:
            content = self.content(index)
        except OSError as error:
            raise BadImage(image_id, f"can't be read: {why(error)}") from error
        image, size = open_scaled(BytesIO(content), image_id, least)
        return replace(self.annotate(index, image, size), stored=size[::-1])

    @abstractmethod
    def content(self, index: int) -> bytes:
        """The bytes of the image's own file. Raises OSError where they can't be read."""

    @abstractmethod
    def annotate(self, index: int, image: Image.Image, size: tuple[int, int]) -> Sample:
        """The decoded image with its label and boxes. size: (width, height) of the stored image."""


class NotedImages(PackedImages):
    """A subclass gives each image's bytes, the file that holds them, and its note.

    column: where in the files the images are, if a setting says that.
    """

    column = ""

    def labels(self, index: int) -> tuple[int, ...]:
        note = self.note(index)
        own = () if note.label is None else (note.label,)
        return tuple(sorted({*own, *(label for label, _ in note.objects)}))

    def fingerprint(self, index: int, hashes: FileHashes | None = None) -> str:
        def read() -> str:
            try:
                return sha256_of((self.content(index),))
            except OSError:
                return f"{UNREADABLE}{sha256_of((None,))}"

        part = f"{self.ids[index]} {self.column}"
        of_image = read() if hashes is None else hashes.of((self.file(index),), read, part)
        unreadable = UNREADABLE if of_image.startswith(UNREADABLE) else ""
        return unreadable + hashlib.sha256(f"{of_image} {self.note(index)!r}".encode()).hexdigest()

    def annotate(self, index: int, image: Image.Image, size: tuple[int, int]) -> Sample:
        note = self.note(index)
        objects, problems = note.clipped(self.ids[index], size)
        return Sample(image, self.ids[index], note.label, objects, problems=problems)

    @abstractmethod
    def file(self, index: int) -> Path:
        """The file that holds them."""

    @abstractmethod
    def note(self, index: int) -> Note:
        """The image's label and boxes."""

    def _name_classes(self, classes: Classes | None, names: Sequence[str] = ()) -> None:
        """Sets the classes to those given, else to the numbers of `names`, before labels are read."""
        numbered = {str(number): as_text(name) for number, name in enumerate(names)}
        self._set_classes(numbered if classes is None else class_list(classes))

    def _check_classes(self) -> None:
        """Where no classes are known they are the numbers up to the largest label. Raises BenchError for a label beyond
        those that are."""
        largest, image_id = max((max(self.labels(index), default=0), self.ids[index]) for index in range(len(self)))
        if not self.classes:
            self._set_classes({str(number): str(number) for number in range(largest + 1)})
        if largest >= len(self.classes):
            raise BenchError(
                f"{self.name!r} labels {image_id!r} with class {largest}, but its classes are 0 to "
                f"{len(self.classes) - 1}; set data.classes to all classes, in the order of their numbers."
            )
