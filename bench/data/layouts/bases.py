"""The bases of data sets of images: as files, or as bytes in larger files (archives and tables)."""

from __future__ import annotations

import os
import re
from abc import abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from posixpath import splitext

from PIL import Image

from axiom_bench.data.base import (
    UNREADABLE,
    BadImage,
    Box,
    DataSet,
    FileHashes,
    Files,
    Least,
    Objects,
    Sample,
    classes_of,
    clipped,
    is_empty,
    with_meaning,
)
from axiom_bench.data.formats.decoding import SUFFIXES, open_scaled, sha256, sha256_of
from axiom_bench.data.formats.files import as_text, files_below, shown, why
from axiom_bench.data.layouts.classes import Classes, class_list
from axiom_bench.errors import BenchError

MAX_CLASS = 999_999  # class indices are counted in thousands
_NUMBER = re.compile(r"-1|[0-9]{1,9}")
UNLABELLED = -1  # the label of images whose class isn't told, as in ImageNet's test set on Hugging Face


class StoredImages(DataSet):
    """A subclass gives each image's source and annotation."""

    orientation = "EXIF orientations aren't applied: annotations are in stored pixels"

    def read(self, index: int) -> Sample:
        return self.read_scaled(index, None)

    def read_scaled(self, index: int, least: Least | None) -> Sample:
        image, size, turned = open_scaled(self.source(index), self.ids[index], least, self.is_upright(index))
        return replace(self.annotate(index, image, size), stored=size[::-1], turned=turned)

    def is_upright(self, index: int) -> bool:
        """Whether the image is turned as its EXIF orientation says: not where annotations are in pixels as stored."""
        return False

    @abstractmethod
    def source(self, index: int) -> Path | BytesIO:
        """The image's file, which may be missing, or its bytes. Raises BadImage."""

    @abstractmethod
    def annotate(self, index: int, image: Image.Image, size: tuple[int, int]) -> Sample:
        """The decoded image with its label, objects and mask. size: (width, height) of the stored image."""


class ImageFiles(StoredImages):
    """Images that are files: a subclass gives each one's path."""

    threads_may_read = True

    def fingerprint(self, index: int, hashes: FileHashes | None = None) -> str:
        paths = self.files(index)
        return (hashes or FileHashes()).of(paths, lambda: sha256(*paths))

    def files(self, index: int) -> Files:
        return self.path(index), *self.annotation_paths(index)

    def source(self, index: int) -> Path:
        return self.path(index)

    @abstractmethod
    def path(self, index: int) -> Path:
        """The image's file, which may be missing."""

    def annotation_paths(self, index: int) -> tuple[Path | None, ...]:
        """The files that the annotation comes from, which may be missing."""
        return ()


def image_files(folder: Path) -> list[str]:
    """The ids of the images below a folder: their paths relative to it, with slashes, as text; ascending.

    Everything that is called as an image is one, also a folder: what can't be read becomes a BadImage. Raises
    BenchError where a folder can't be listed.
    """
    return sorted(as_text(path) for path in files_below(folder) if splitext(path)[1].lower() in SUFFIXES)


def images_in_folders(folder: Path, names: Collection[str]) -> tuple[str, ...]:
    """The ids of the images below those folders in a folder that have one of these names; see `image_files`."""
    paths = (path.partition("/") for path in image_files(folder))
    return tuple("".join(path) for path in paths if path[1] and path[0] in names)


def existing(folder: Path, layout: str) -> Path:
    """The folder itself. Raises BenchError, with the expected layout, where it doesn't exist."""
    if not os.path.isdir(folder):
        raise BenchError(
            f"There is no folder {as_text(folder)}; expected {layout}. "
            "Set data.root, or AXIOM_BENCH_REAL for real_root."
        )
    return folder


class PackedImages(StoredImages):
    """A subclass gives each image's bytes."""

    def source(self, index: int) -> BytesIO:
        try:
            return BytesIO(self.content(index))
        except OSError as error:
            raise BadImage(self.ids[index], f"can't be read: {why(error)}") from error

    @abstractmethod
    def content(self, index: int) -> bytes:
        """The bytes of the image's own file. Raises OSError where they can't be read."""

    def annotation(self, index: int) -> tuple[bytes | None, ...]:
        """The bytes of the image's annotation files, None for a missing one."""
        return ()

    def _sha256(self, index: int, hashes: FileHashes | None, part: str) -> str:
        """Over the image's and its annotations' bytes, a part of its files."""

        def read() -> str:
            try:
                return sha256_of((self.content(index), *self.annotation(index)))
            except OSError:
                return f"{UNREADABLE}{sha256_of((None, *self.annotation(index)))}"

        return (hashes or FileHashes()).of(self.files(index), read, part)


class NotedImages(PackedImages):
    """A subclass gives each image's bytes, the file that holds them, and its note.

    column: where in the files the images are, if a setting says that.
    """

    column = ""
    orientation = "EXIF orientations are applied to images without boxes, which are in stored pixels"

    def is_upright(self, index: int) -> bool:
        return not self.note(index).objects

    def labels(self, index: int) -> tuple[int, ...]:
        return classes_of(self.note(index).label, self.note(index).objects)

    def fingerprint(self, index: int, hashes: FileHashes | None = None) -> str:
        of_image = self._sha256(index, hashes, f"{self.ids[index]} {self.column}")
        return with_meaning(of_image, repr(self.note(index)))

    def annotate(self, index: int, image: Image.Image, size: tuple[int, int]) -> Sample:
        note = self.note(index)
        objects, problems = note.clipped(self.ids[index], size)
        return Sample(image, self.ids[index], note.label, objects, problems=problems)

    def files(self, index: int) -> Files:
        return (self.file(index),)

    @abstractmethod
    def file(self, index: int) -> Path:
        """The file that holds them."""

    @abstractmethod
    def note(self, index: int) -> Note:
        """The image's label and boxes."""

    def _name_classes(self, classes: Classes | None, names: Sequence[str] = ()) -> None:
        """Sets the classes, else the numbers of `names`, before labels are read."""
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


@dataclass(frozen=True)
class Note:
    """label: class index, or None. objects: (class index, box), boxes as they are stored, which may lead out of the
    image. problems: sentences on what is malformed."""

    label: int | None = None
    objects: Objects = ()
    problems: tuple[str, ...] = ()

    @staticmethod
    def of(label: object, boxes: object, classes: Mapping[str, int]) -> Note:
        """label: a class index, the name of a class, or None; -1 is none. boxes: a list of [x0, y0, x1, y1] in pixels
        from 0, x1 and y1 exclusive, of the image's class, or {"label": ..., "box": [x0, y0, x1, y1]}; or None.
        """
        index, problems = _label(label, classes)
        objects: list[tuple[int, Box]] = []
        for entry in boxes if isinstance(boxes, list) else [] if boxes is None else [boxes]:
            name, box = (entry.get("label"), entry.get("box")) if isinstance(entry, Mapping) else (None, entry)
            of_box, wrong = (index, []) if name is None else _label(name, classes)
            corners = _corners(box)
            if of_box is None or corners is None:
                problems += wrong or [f"a malformed box: {shown(entry)}"]
            else:
                objects.append((of_box, corners))
        return Note(index, tuple(objects), tuple(problems))

    def clipped(self, image_id: str, size: tuple[int, int]) -> tuple[Objects, tuple[str, ...]]:
        """(the objects with boxes inside an image of this size (width, height); all problems). An empty box is one."""
        objects: list[tuple[int, Box]] = []
        problems = [f"{image_id} has {problem}" for problem in self.problems]
        for label, box in self.objects:
            inside = clipped(box, size)
            if is_empty(inside):
                problems.append(f"{image_id} has an empty box: {shown([*box])}")
            else:
                objects.append((label, inside))
        return tuple(objects), tuple(problems)


def _label(value: object, classes: Mapping[str, int]) -> tuple[int | None, list[str]]:
    """(class index or None, problems)."""
    if isinstance(value, str):
        text = value.strip()
        value = classes.get(text, int(text) if _NUMBER.fullmatch(text) else text)
    if value is None or (type(value) is int and value == UNLABELLED):
        return None, []
    if type(value) is int and 0 <= value <= MAX_CLASS:
        return value, []
    return None, [f"a label that is no class: {shown(value)}"]


def _corners(box: object) -> Box | None:
    """The box, None for a malformed one."""
    if not isinstance(box, list) or len(box) != 4:
        return None
    if not all(type(value) in (int, float) and abs(value) < 1e9 for value in box):  # NaN is not below it either
        return None
    x0, y0, x1, y1 = map(float, box)
    return x0, y0, x1, y1
