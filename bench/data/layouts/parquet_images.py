"""Parquet files with a row for each image, as Hugging Face publishes ImageNet: the image's own bytes, and its label."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from axiom_bench.data.formats.file_names import as_text, shown
from axiom_bench.data.formats.named_files import Paths, files_named
from axiom_bench.data.formats.parquet_file import ParquetFile, Stream, Unreadable
from axiom_bench.data.formats.reading import why
from axiom_bench.data.layouts.class_list import Classes
from axiom_bench.data.layouts.packed import Note, NotedImages
from axiom_bench.errors import BenchError
from axiom_bench.kinds import Name

SUFFIX = ".parquet"
DIGITS = 9  # of a row's number in an id
BYTES = "bytes"  # the field of an image that is a struct


@dataclass(frozen=True, slots=True)
class _Row:
    """row: its number in its file; None for a file that can't be read, and `missing` says why."""

    file: str
    row: int | None
    note: Note = Note()  # noqa: RUF009 - it is frozen
    missing: str = ""


class ParquetImages(NotedImages):
    """ids: "<file>/<row from 0, nine digits>", "validation-00000-of-00014/000000123".

    path: see `named_files`. image: the column of the images, bytes or a struct with a field `bytes`. label, boxes: the
    columns of labels (class indices or names) and boxes, see `Note.of`; null for none. classes: in the order of the
    numbers (a list or a file); None: those that Hugging Face keeps in its files, else the numbers. A file that can't be
    read is an image that can't be read, by the file's name. Raises BenchError where none can be, and for a column that
    isn't there or is of another kind.
    """

    def __init__(
        self,
        path: Paths,
        image: Name = "image",
        label: Name | None = "label",
        boxes: Name | None = None,
        classes: Classes | None = None,
        name: Name = "parquet",
    ) -> None:
        self.name = name
        self._stream: Stream | None = None
        self._files: dict[str, ParquetFile] = {}
        self._paths = files_named(path, SUFFIX)
        unreadable: dict[str, _Row] = {}
        for each, file in self._paths.items():
            try:
                self._files[each] = ParquetFile.of(file)
            except Unreadable as error:
                unreadable[each] = _Row(each, None, missing=f"the file is damaged or no Parquet: {why(error)}")
        self.column = image
        self._columns = {each: _checked(file, image, label, boxes) for each, file in self._files.items()}
        self._name_classes(classes, next((file.class_names(label) for file in self._files.values()), ()))
        rows = dict(unreadable)
        for each in list(self._files):
            rows |= self._rows(each, label, boxes)
        if all(row.row is None for row in rows.values()):
            reason = next((row.missing for row in rows.values()), "they have no rows")
            raise BenchError(f"There are no images in data.path, Parquet files with a row for each image: {reason}.")
        self.ids = tuple(sorted(rows))
        self._images = tuple(rows[image_id] for image_id in self.ids)
        self._check_classes()

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_stream": None}  # what is open doesn't travel to other processes

    def content(self, index: int) -> bytes:
        place = self._images[index]
        if place.row is None:
            raise Unreadable(place.missing)
        file = self._files[place.file]
        group = bisect_right(file.starts, place.row) - 1
        row = place.row - file.starts[group]
        if self._stream is None or not self._stream.reaches(file, group, row):
            self._stream = Stream(file, self._columns[place.file], group)
        try:
            return self._stream.read(row)
        except Unreadable:
            self._stream = None  # so that the next row of the group says the same
            raise

    def file(self, index: int) -> Path:
        return self._paths[self._images[index].file]

    def note(self, index: int) -> Note:
        return self._images[index].note

    def _rows(self, name: str, label: str | None, boxes: str | None) -> dict[str, _Row]:
        """{image id: row} of a file; of one whose labels or boxes can't be read it is the file alone."""
        file = self._files[name]
        try:
            labels, listed = (
                [None] * file.metadata.num_rows if column is None else file.values(column) for column in (label, boxes)
            )
        except Unreadable as error:
            return {name: _Row(name, None, missing=f"the file is damaged: {why(error)}")}
        notes = {value: Note.of(value, None, self._index) for value in set(labels)}  # of a million rows few differ
        return {
            f"{name}/{row:0{DIGITS}}": _Row(
                name, row, notes[value] if of_row is None else Note.of(value, of_row, self._index)
            )
            for row, (value, of_row) in enumerate(zip(labels, listed, strict=True))
        }


def _checked(file: ParquetFile, image: str, label: str | None, boxes: str | None) -> str:
    """The path of the column with the images' bytes. Raises BenchError where a column isn't there or can't be used."""
    of_image = _type(file, "image", image)
    path = image
    if pa.types.is_struct(of_image) and of_image.get_field_index(BYTES) >= 0:
        of_image, path = of_image.field(BYTES).type, f"{image}.{BYTES}"
    _check(file, "image", image, of_image, _is_bytes, f"bytes, or a struct with a field {BYTES!r}")
    if label is not None:
        of_label = _type(file, "label", label)
        _check(file, "label", label, of_label, _is_label, "class indices or names")
    if boxes is not None:
        wanted = "lists of [x0, y0, x1, y1] or of {label, box}, of numbers"
        _check(file, "boxes", boxes, _type(file, "boxes", boxes), _is_list_of_numbers, wanted)
    return path


def _type(file: ParquetFile, setting: str, column: str) -> pa.DataType:
    if file.schema.names.count(column) != 1:
        names = ", ".join(as_text(name) for name in file.schema.names)
        raise BenchError(
            f"{as_text(file.path)} has no column {column!r} for data.{setting}; its columns are {shown(names)[1:-1]}."
        )
    return file.schema.field(column).type


def _check(
    file: ParquetFile, setting: str, column: str, of: pa.DataType, fits: Callable[[pa.DataType], bool], wanted: str
) -> None:
    if not fits(of):
        raise BenchError(
            f"The column {column!r} of {as_text(file.path)} holds {shown(str(of))[1:-1]}; data.{setting} must name one "
            f"that holds {wanted}."
        )


def _is_bytes(of: pa.DataType) -> bool:
    return pa.types.is_binary(of) or pa.types.is_large_binary(of)


def _is_label(of: pa.DataType) -> bool:
    text = of.value_type if pa.types.is_dictionary(of) else of
    return pa.types.is_integer(of) or pa.types.is_string(text) or pa.types.is_large_string(text)


def _is_list_of_numbers(of: pa.DataType, depth: int = 0) -> bool:
    """Whether it is a list, and all in it numbers: a text in it could be repeated without bounds."""
    if pa.types.is_list(of) or pa.types.is_large_list(of) or pa.types.is_fixed_size_list(of):
        return _is_list_of_numbers(of.value_type, depth + 1)
    if depth and pa.types.is_struct(of):
        return all(_is_list_of_numbers(of.field(place).type, depth + 1) for place in range(of.num_fields))
    return depth > 0 and (pa.types.is_integer(of) or pa.types.is_floating(of))
