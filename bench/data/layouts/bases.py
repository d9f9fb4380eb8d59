"""The bases of data sets of images: as files, or as bytes in larger files (archives and tables)."""

from __future__ import annotations

import hashlib
import os
import re
from abc import abstractmethod
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from posixpath import splitext
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from axiom_bench.data.base import (
    NO_VERDICT,
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
    inside,
)
from axiom_bench.data.formats.decoding import (
    NEARLY_BLACK,
    is_nearly_black,
    open_scaled,
    opened,
    sha256,
    sha256_of,
    suffixes,
)
from axiom_bench.data.formats.files import as_name, as_text, files_below, listed_file, one_form, shown, why
from axiom_bench.data.layouts.classes import Classes, class_list
from axiom_bench.errors import BenchError

MAX_CLASS = 999_999  # class indices are counted in thousands
_NUMBER = re.compile(r"-1|[0-9]{1,9}")
LISTS = (".txt", ".csv", ".tsv", ".json", ".xml")  # endings of what stands beside images and is none
UNLABELLED = -1  # the label of images whose class isn't told, as in ImageNet's test set on Hugging Face


class StoredImages(DataSet):
    """A subclass gives each image's source, the hash of its content, and its annotation."""

    orientation = "EXIF orientations aren't applied: annotations are in stored pixels"

    def read(self, index: int) -> Sample:
        return self.read_scaled(index, None)

    def read_scaled(self, index: int, least: Least | None) -> Sample:
        image, size, turned = open_scaled(self.source(index), self.ids[index], least, self.is_upright(index))
        sample = replace(self.annotate(index, image, size), stored=size[::-1], turned=turned)
        if is_nearly_black(image):
            return replace(sample, problems=(*sample.problems, f"the image {NEARLY_BLACK}"))
        return sample

    def fingerprint(self, index: int, hashes: FileHashes | None = None) -> str:
        of_files, meaning = self.content_hash(index, hashes or FileHashes()), self.meaning(index)
        if not meaning:
            return of_files
        # images whose files can't be read have one hash, by which `data.cache` would give one for another
        unreadable = UNREADABLE if of_files.startswith(UNREADABLE) else ""
        return unreadable + hashlib.sha256(f"{of_files} {meaning}".encode()).hexdigest()

    def is_upright(self, index: int) -> bool:
        """Whether the image is turned as its EXIF orientation says: not where annotations are in pixels as stored."""
        return False

    def annotate(self, index: int, image: Image.Image, size: tuple[int, int]) -> Sample:
        """The decoded image with its label, objects and mask. size: (width, height) of the stored image."""
        return Sample(image, self.ids[index], next(iter(self.labels(index)), None))

    def meaning(self, index: int) -> str:
        """What decides, beside the bytes of its files, what is read of an image; "" for nothing."""
        return ""

    @abstractmethod
    def source(self, index: int) -> Path | BytesIO:
        """The image's file, which may be missing, or its bytes. Raises BadImage."""

    @abstractmethod
    def content_hash(self, index: int, hashes: FileHashes) -> str:
        """SHA-256 over the bytes of the image and its annotations."""


class ImageFiles(StoredImages):
    """Images that are files: by their ids below `folder`, unless a subclass gives each one's path."""

    threads_may_read = True
    folder: Path

    def content_hash(self, index: int, hashes: FileHashes) -> str:
        paths = self.files(index)
        return hashes.of(paths, lambda: sha256(*paths))

    def files(self, index: int) -> Files:
        return self.path(index), *self.annotation_paths(index)

    def source(self, index: int) -> Path:
        return self.path(index)

    def path(self, index: int) -> Path:
        """The image's file, which may be missing."""
        return listed_file(self.folder, as_name(self.ids[index]))

    def annotation_paths(self, index: int) -> tuple[Path | None, ...]:
        """The files that the annotation comes from, which may be missing."""
        return ()


def image_files(folder: Path, endings: Collection[str] | None = None) -> tuple[list[str], str]:
    """(the ids of the images below a folder: their paths relative to it, with slashes, as text, ascending; a sentence
    on files of other kinds, "" for none). Hidden files and lists don't count. endings: None for those of pictures.

    Everything that is called as an image is one, also a folder: what can't be read becomes a BadImage. Raises
    BenchError where a folder can't be listed.
    """
    images, kinds = list[str](), defaultdict[str, list[str]](list)
    for path in sorted(map(as_text, files_below(folder))):
        ending = splitext(path)[1].lower()
        if path.lower().endswith(tuple(endings)) if endings else ending in suffixes():
            images.append(path)
        elif ending not in LISTS and os.path.isfile(folder / as_name(path)):
            kinds[ending or "without an ending"].append(path)
    wanted = "arrays as .npy" if endings else "photographs as JPEG or PNG"
    counts = ", ".join(f"{len(files)} {kind} ({files[0]})" for kind, files in sorted(kinds.items()))
    return images, f"not read: {counts}; save {wanted}" if kinds else ""


def existing(folder: Path, layout: str) -> Path:
    """The folder itself. Raises BenchError, with the expected layout, where it doesn't exist."""
    if not os.path.isdir(folder):
        raise BenchError(
            f"There is no folder {as_text(folder)}; expected {layout}. "
            "Set data.root, or AXIOM_BENCH_REAL for real_root."
        )
    return folder


def read_mask(
    path: Path,
    size: tuple[int, int],
    numbers: Callable[[Image.Image], NDArray[Any]],
    classes: NDArray[np.int64],
    ignored: int,
) -> tuple[NDArray[np.int64] | None, tuple[str, ...]]:
    """(class index per pixel (h, w), BACKGROUND or NO_VERDICT, or None; problems) of a picture of this (width, height).

    numbers: of the picture, one per pixel. classes: the class index of each number, or BACKGROUND. ignored: the number
    of pixels without a verdict.
    """
    name = as_text(path.name)
    try:
        with opened(path, f"the mask {name}") as picture:
            values = numbers(picture).astype(np.int64)
    except BadImage as bad:
        return None, (str(bad),)
    is_ignored = values == ignored
    if values.shape != size[::-1] or not (is_ignored | ((values >= 0) & (values < len(classes)))).all():
        return None, (f"the mask {name} isn't one class per pixel of a {size[0]} x {size[1]} image",)
    return np.where(is_ignored, NO_VERDICT, classes[np.where(is_ignored, 0, values)]), ()


class PackedImages(StoredImages):
    """A subclass gives each image's bytes."""

    def source(self, index: int) -> BytesIO:
        try:
            return BytesIO(self.content(index))
        except OSError as error:
            raise BadImage(self.ids[index], f"can't be read: {why(error)}") from error

    def content_hash(self, index: int, hashes: FileHashes) -> str:
        def read() -> str:
            try:
                return sha256_of((self.content(index), *self.annotation(index)))
            except OSError:
                return f"{UNREADABLE}{sha256_of((None, *self.annotation(index)))}"

        return hashes.of(self.files(index), read, self.part(index))

    @abstractmethod
    def content(self, index: int) -> bytes:
        """The bytes of the image's own file. Raises OSError where they can't be read."""

    def annotation(self, index: int) -> tuple[bytes | None, ...]:
        """The bytes of the image's annotation files, None for a missing one."""
        return ()

    def part(self, index: int) -> str:
        """What names the image in its files."""
        return self.ids[index]


@dataclass(frozen=True)
class Note:
    """label: class index, or None. objects: (class index, box), boxes as they are stored, which may lead out of the
    image. problems: sentences on what is malformed."""

    label: int | None = None
    objects: Objects = ()
    problems: tuple[str, ...] = ()

    @staticmethod
    def of(label: object, boxes: object, classes: Mapping[str, int]) -> Note:
        """label: a class index, a class of `classes`, or None; -1 is none. boxes: a list of [x0, y0, x1, y1] in pixels
        from 0, x1 and y1 exclusive, of the image's class, or {"label": ..., "box": [x0, y0, x1, y1]}; or None."""
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

    @property
    def labels(self) -> tuple[int, ...]:
        """All classes, ascending."""
        return classes_of(self.label, self.objects)

    def sample(self, image: Any, image_id: str, size: tuple[int, ...], mask: NDArray[np.int64] | None = None) -> Sample:
        """The image with its label and objects, boxes clipped to its size as stored, the last axis first."""
        objects: list[tuple[int, Box]] = []
        problems = [f"{image_id} has {problem}" for problem in self.problems]
        for label, box in self.objects:
            if len(box) != 2 * len(size):
                problems.append(f"{image_id} has a malformed box: {shown([*box])}")
                continue
            part, problem = inside(box, size)
            if part is not None:
                objects.append((label, part))
            if problem:
                problems.append(f"{image_id}: the box {shown([*box])} {problem}")
        return Sample(image, image_id, self.label, tuple(objects), mask, tuple(problems))


def _label(value: object, classes: Mapping[str, int]) -> tuple[int | None, list[str]]:
    """(class index or None, problems)."""
    if isinstance(value, str):
        text = value.strip()
        number = int(text) if _NUMBER.fullmatch(text) else text
        value = classes.get(text, classes.get(one_form(text), number))
    if value is None or (type(value) is int and value == UNLABELLED):
        return None, []
    if type(value) is int and 0 <= value <= MAX_CLASS:
        return value, []
    return None, [f"a label that is no class: {shown(value)}"]


def _corners(box: object) -> Box | None:
    """The box, None for a malformed one."""
    if not isinstance(box, list) or not all(type(value) in (int, float) and abs(value) < 1e9 for value in box):
        return None  # also for NaN, which isn't below it either
    return tuple(map(float, box)) if len(box) in (2, 4, 6) else None


@dataclass(frozen=True, slots=True)
class Entry:
    """An image in a larger file. file: that one's name. place: of the image in it; None where there is none, and
    `missing` says why."""

    file: str
    place: Any
    note: Note = Note()
    missing: str = ""


class NotedImages(PackedImages):
    """A subclass gives the entry of each image, the paths of their files, and what stands at a place.

    column: where in the files the images are, if a setting says that.
    """

    column = ""
    orientation = "EXIF orientations are applied to images without boxes, which are in stored pixels"
    paths: Mapping[str, Path]
    entries: tuple[Entry, ...]

    @abstractmethod
    def at(self, entry: Entry) -> bytes:
        """The bytes at the place of an entry. Raises OSError."""

    def content(self, index: int) -> bytes:
        entry = self.entries[index]
        if entry.place is None:
            raise OSError(entry.missing)
        return self.at(entry)

    def is_upright(self, index: int) -> bool:
        return not self.entries[index].note.objects

    def labels(self, index: int) -> tuple[int, ...]:
        return self.entries[index].note.labels

    def part(self, index: int) -> str:
        return f"{self.ids[index]} {self.column}"

    def meaning(self, index: int) -> str:
        return repr(self.entries[index].note)

    def files(self, index: int) -> Files:
        return (self.paths[self.entries[index].file],)

    def annotate(self, index: int, image: Image.Image, size: tuple[int, int]) -> Sample:
        return self.entries[index].note.sample(image, self.ids[index], size)

    def _name_classes(self, classes: Classes | None, names: Sequence[str] = ()) -> None:
        """Sets the classes, else the numbers of `names`, before labels are read."""
        numbered = {str(number): as_text(name) for number, name in enumerate(names)}
        self._set_classes(numbered if classes is None else class_list(classes))

    def _take(self, entries: Mapping[str, Entry], nothing: str, layout: str) -> None:
        """Sets ids and entries, from {image id: entry}. Where no classes are known they are the numbers up to the
        largest label. nothing: why there is no image, where no entry says it. Raises BenchError where there is none,
        and for a label beyond the classes."""
        if all(entry.place is None for entry in entries.values()):
            reason = next((entry.missing for entry in entries.values()), nothing)
            raise BenchError(f"There are no images in data.path: {reason}. Expected {layout}.")
        self.ids = tuple(sorted(entries))
        self.entries = tuple(entries[image_id] for image_id in self.ids)
        largest, image_id = max((max(self.labels(index), default=0), self.ids[index]) for index in range(len(self)))
        if not self.classes:
            self._set_classes({str(number): str(number) for number in range(largest + 1)})
        if largest >= len(self.classes):
            raise BenchError(
                f"{self.name!r} labels {image_id!r} with class {largest}, but its classes are 0 to "
                f"{len(self.classes) - 1}; set data.classes to all classes, in the order of their numbers."
            )
