"""A layout as a table with a row for each image.

This module reads, hashes and annotates the rows of all layouts.

A layout thus consists of one function that lists its images, and needs no class of its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import InitVar, dataclass, field, replace
from functools import cached_property, partial
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from axiom_bench.data.base import (
    UNREADABLE,
    BadImage,
    DataSet,
    FileHashes,
    Files,
    Least,
    Objects,
    Sample,
    StoredPart,
    classes_of,
)
from axiom_bench.data.formats.decoding import (
    NEARLY_BLACK,
    is_nearly_black,
    open_scaled,
    sha256,
    sha256_of,
)
from axiom_bench.data.formats.files import reason_of

Labels = tuple[int, ...]  # class indices of an image, ascending
# Of an image as it is stored: (width, height); of an array its space, the last axis first.
Size = tuple[int, ...]


@dataclass(frozen=True)
class Note:
    """The annotation of an image.

    Its text is part of fingerprints, so `repr` shows label, objects and problems only.

    Attributes:
        label: The class index, or None.
        objects: (class index, box) of each object.
        problems: Sentences on what is missing or malformed.
        mask: The class index of each pixel, as in a Sample.
        crowd: (class index, box) of regions that hold many objects.
    """

    label: int | None = None
    objects: Objects = ()
    problems: tuple[str, ...] = ()
    mask: NDArray[np.int64] | None = field(default=None, repr=False)
    crowd: Objects = field(default=(), repr=False)

    @cached_property
    def labels(self) -> Labels:
        """All classes, ascending."""
        return classes_of(self.label, self.objects)


@dataclass(frozen=True)
class Row:
    """An image, with functions for what is read only when it is needed.

    Attributes:
        files: The files of image and annotation, which may be missing. The first one is the
            image's own, or holds the image.
        annotate: Return the annotation of an image of this size. If None, the image has its first
            label and nothing else.
        labels: Return the labels, in a table that has none.
        facts: Return what decides the annotation in addition to the bytes of the files; None if
            nothing does.
        contents: Return the bytes of the image, then of its annotation, from a file that holds
            several images, or raise OSError. None if the files hold one image.
        part: Names the image in such a file.
        values: Return the sample of a layout of arrays, or raise BadImage. None if the image is a
            picture.
        interventions: Return the parts, see `DataSet.interventions`. None if the layout has none.
        is_upright: True if the image is turned as its EXIF orientation says. It isn't if boxes are
            in stored pixels.
    """

    files: Files
    annotate: Callable[[Size], Note] | None = None
    labels: Callable[[], Labels] | None = None
    facts: Callable[[], str] | None = None
    contents: Callable[[], tuple[bytes, ...]] | None = None
    part: str = ""
    values: Callable[[], np.ndarray] | None = None
    interventions: Callable[[], tuple[StoredPart, ...]] | None = None
    is_upright: bool = False


@dataclass(eq=False)
class Table(DataSet):
    """The data set of a layout.

    Rows are made when they are asked for, so that a million take the memory of their ids.

    Attributes:
        layout: The module of the layout, whose code decides the rows.
        name: As in DataSet.
        ids: As in DataSet.
        listed: {class: its readable name}, or the classes if they have no other names; by class
            index.
        known_labels: The labels of each image; None if its row reads them.
        row: Return the row of the image at an index of `ids`. It travels to other processes.
        notes: As in DataSet.
        unlabelled: As in DataSet.
        orientation: As in DataSet.
        threads_may_read: As in DataSet.
        shape: As in DataSet.
    """

    layout: str
    name: str
    ids: tuple[str, ...]
    listed: InitVar[Mapping[str, str] | tuple[str, ...]]
    known_labels: Sequence[Labels] | None
    row: Callable[[int], Row]
    notes: tuple[str, ...] = ()
    unlabelled: str = ""
    orientation: str = "EXIF orientations aren't applied: annotations are in stored pixels"
    threads_may_read: bool = True
    shape: tuple[int, ...] | None = None

    def __post_init__(self, listed: Mapping[str, str] | tuple[str, ...]) -> None:
        self.classes = tuple(listed)
        if isinstance(listed, Mapping):
            self._class_names = tuple(listed.values())

    @property
    def module(self) -> str:
        return self.layout

    def labels(self, index: int) -> Labels:
        if self.known_labels is not None:
            return self.known_labels[index]
        labels = self.row(index).labels
        return () if labels is None else labels()

    def files(self, index: int) -> Files:
        return self.row(index).files

    def read(self, index: int) -> Sample:
        return self.read_scaled(index, None)

    def read_scaled(self, index: int, least: Least | None) -> Sample:
        row = self.row(index)
        image_id = self.ids[index]
        if row.values is not None:
            values = row.values()
            return _sample(values, image_id, self._note(index, row, values.shape[:0:-1]))
        image, size, turned = open_scaled(_source(row, image_id), image_id, least, row.is_upright)
        note = self._note(index, row, size)
        if is_nearly_black(image):
            note = replace(note, problems=(*note.problems, f"the image {NEARLY_BLACK}"))
        return replace(_sample(image, image_id, note), stored=size[::-1], turned=turned)

    def fingerprint(self, index: int, hashes: FileHashes | None = None) -> str:
        row = self.row(index)
        hashes = hashes or FileHashes()
        files_hash = hashes.hash_of(row.files, partial(_sha256, row), row.part)
        if row.facts is None:
            return files_hash
        # All images whose files can't be read have the same hash. Without the prefix, `data.cache`
        # would take one of them for another.
        unreadable = UNREADABLE if files_hash.startswith(UNREADABLE) else ""
        return unreadable + hashlib.sha256(f"{files_hash} {row.facts()}".encode()).hexdigest()

    def interventions(self, index: int) -> tuple[StoredPart, ...] | None:
        interventions = self.row(index).interventions
        return None if interventions is None else interventions()

    def _note(self, index: int, row: Row, size: Size) -> Note:
        """Return the annotation of an image of this size."""
        if row.annotate is not None:
            return row.annotate(size)
        return Note(next(iter(self.labels(index)), None))


def _sample(image: Any, image_id: str, note: Note) -> Sample:
    """Return the sample of an image and its annotation."""
    return Sample(
        image=image,
        image_id=image_id,
        label=note.label,
        objects=note.objects,
        mask=note.mask,
        problems=note.problems,
        crowd=note.crowd,
    )


def _source(row: Row, image_id: str) -> Path | BytesIO:
    """Return the file of a picture, which may be missing, or its bytes.

    Raises:
        BadImage: If the bytes can't be read.
    """
    if row.contents is None:
        return row.files[0]
    try:
        return BytesIO(row.contents()[0])
    except OSError as error:
        raise BadImage(image_id, f"can't be read: {reason_of(error)}") from error


def _sha256(row: Row) -> str:
    """Return the SHA-256 of the bytes of image and annotation."""
    if row.contents is None:
        return sha256(*row.files)
    try:
        return sha256_of(row.contents())
    except OSError:
        return f"{UNREADABLE}{sha256_of([None])}"
