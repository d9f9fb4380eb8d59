"""Parquet files with a row for each image, as Hugging Face publishes ImageNet.

A row has the image's own bytes and its label. Images are read as a stream, row by row. So a process
holds a page of a column and never a row group, however large row groups are.
"""

from __future__ import annotations

import json
import os
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from axiom_bench.data.formats.files import (
    Paths,
    as_text,
    files_named,
    open_regular,
    reason_of,
    short_repr,
)
from axiom_bench.data.layouts.classes import Classes, ClassIndex, class_list, index_of_classes
from axiom_bench.data.layouts.packed import Entry, note_of, packed_table
from axiom_bench.data.layouts.table import Table
from axiom_bench.errors import BenchError
from axiom_bench.kinds import Name

SUFFIX = ".parquet"
DIGITS = 9  # of a row's number in an id
BYTES = "bytes"  # the field of an image that is a struct
MAX_IMAGE = 2**28  # bytes of one image's file
BUFFER = 2**20  # bytes
ROWS = 1024  # rows of a small column that are read at once
LAYOUT = "Parquet files with a row for each image"


class Unreadable(OSError):
    """A file, or a part of one, that can't be read, and the reason."""


@contextmanager
def _reading() -> Iterator[None]:
    """Raise Unreadable in place of what pyarrow raises for a damaged file."""
    try:
        yield
    except (pa.ArrowException, OSError, ValueError, TypeError) as error:
        raise Unreadable(str(error).split("\n")[0] or type(error).__name__) from error


@dataclass(frozen=True)
class ParquetFile:
    """A Parquet file whose footer was read.

    Attributes:
        path: The file.
        metadata: The footer.
        schema: The columns.
        starts: The first row of each row group, and the number of all rows at the end.
    """

    path: Path
    metadata: pq.FileMetaData
    schema: pa.Schema
    starts: tuple[int, ...]

    @staticmethod
    @_reading()
    def of(path: Path) -> ParquetFile:
        """Read the footer of a file.

        Raises:
            Unreadable: If it is damaged.
        """
        open_regular(path).close()  # a pipe would be waited for
        with pq.ParquetFile(path, pre_buffer=False) as file:
            metadata = file.metadata
            schema = file.schema_arrow
        sizes = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
        starts = tuple(accumulate(sizes, initial=0))
        if starts[-1] != metadata.num_rows or min(starts) < 0:
            raise Unreadable(f"its row groups have {starts[-1]:,} rows of {metadata.num_rows:,}")
        return ParquetFile(path, metadata, schema, starts)

    def class_names(self, column: str | None) -> list[str]:
        """Return the class names of a column of labels, [] if there are none.

        Hugging Face's data sets keep them in the footer.
        """
        try:
            details = json.loads((self.schema.metadata or {})[b"huggingface"])
            names = details["info"]["features"][column]["names"]
        except (KeyError, TypeError, ValueError, RecursionError):
            return []
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            return []
        return names

    def values(self, column: str) -> list[object]:
        """Return all values of a small column as Python objects.

        Raises:
            Unreadable: If the column is damaged.
        """
        values: list[object] = []
        with _reading(), self._opened() as file:
            for batch in file.iter_batches(ROWS, columns=[column], use_threads=False):
                values.extend(batch.column(0).to_pylist())
        if len(values) != self.metadata.num_rows:
            raise Unreadable(
                f"its column {column!r} has {len(values):,} rows of {self.metadata.num_rows:,}"
            )
        return values

    def rows(self, column: str, group: int) -> Iterator[pa.Scalar]:
        """Yield the bytes of the rows of a row group, each a scalar.

        Raises:
            Unreadable: If the row group is damaged.
        """
        with _reading(), self._opened() as file:
            batches = file.iter_batches(1, row_groups=[group], columns=[column], use_threads=False)
            for batch in batches:
                array = batch.column(0)
                while pa.types.is_struct(array.type):
                    (array,) = array.flatten()
                yield array[0]

    def _opened(self) -> pq.ParquetFile:
        return pq.ParquetFile(
            self.path,
            metadata=self.metadata,
            pre_buffer=False,
            buffer_size=BUFFER,
            page_checksum_verification=True,
        )


def _content(value: pa.Scalar) -> bytes:
    """Return the bytes of an image, or raise Unreadable."""
    if not value.is_valid:
        raise Unreadable("the row holds no image")
    if (size := value.as_buffer().size) > MAX_IMAGE:
        raise Unreadable(f"it has {size:,} bytes, more than {MAX_IMAGE:,}")
    content: bytes = value.as_py()
    return content


class Stream:
    """The bytes of images, read as a stream of each row group's values.

    Attributes:
        columns: {path: file, and the path of the column in it}.
    """

    def __init__(self, columns: Mapping[Path, tuple[ParquetFile, str]]) -> None:
        self.columns = columns
        self._values: tuple[object, Iterator[pa.Scalar]] | None = None
        self._next = 0  # the next row that the stream of the row group gives

    def __getstate__(self) -> dict[str, object]:
        return {**vars(self), "_values": None}  # an open stream doesn't travel to other processes

    def __call__(self, entry: Entry) -> bytes:
        """Return the bytes of a row; if the stream has passed it, start the stream again.

        Raises:
            Unreadable: If the row can't be read.
        """
        file, column = self.columns[entry.file]
        group = bisect_right(file.starts, entry.place) - 1
        row = entry.place - file.starts[group]
        source = (entry.file, group, os.getpid())  # a forked process opens its own stream
        if self._values is None or self._values[0] != source or row < self._next:
            self._values = (source, file.rows(column, group))
            self._next = 0
        try:
            for value in self._values[1]:
                self._next += 1
                if self._next > row:
                    return _content(value)
            raise Unreadable(f"its row group ends before row {row}")
        except Unreadable:
            self._values = None  # so that the next row of the group raises the same
            raise


def parquet(
    path: Paths,
    image: Name = "image",
    label: Name | None = "label",
    boxes: Name | None = None,
    classes: Classes | None = None,
    name: Name = "parquet",
) -> Table:
    """Return the images of Parquet files.

    Ids are "<file>/<row from 0, nine digits>", "validation-00000/000000123".

    Args:
        path: The files, see `files_named`. A file that can't be read is a bad image with the
            file's name.
        image: The column of the images, bytes or a struct with a field `bytes`.
        label: The column of the labels, see `note_of`; None for no labels.
        boxes: The column of the boxes, see `note_of`; None for no boxes.
        classes: The classes in the order of the numbers (a list or a file). None for those that
            Hugging Face keeps in its files, or for the numbers.
        name: The name of the data set.

    Raises:
        BenchError: If no file can be read, or a column doesn't exist or is of another kind.
    """
    files: dict[str, ParquetFile] = {}
    entries: dict[str, Entry] = {}
    for file_name, file_path in files_named(path, SUFFIX).items():
        try:
            files[file_name] = ParquetFile.of(file_path)
        except Unreadable as error:
            missing = f"the file is damaged or isn't Parquet: {reason_of(error)}"
            entries[file_name] = Entry(file_path, None, missing=missing)
    stream = Stream(
        {file.path: (file, _checked(file, image, label, boxes)) for file in files.values()}
    )
    if classes is not None:
        names = class_list(classes)
    else:
        class_names: Sequence[str] = next((file.class_names(label) for file in files.values()), ())
        names = {str(number): as_text(class_name) for number, class_name in enumerate(class_names)}
    for file_name, file in files.items():
        entries |= _rows(file_name, file, label, boxes, index_of_classes(names))
    table = packed_table(__name__, name, names, entries, stream, LAYOUT, "they have no rows", image)
    table.threads_may_read = False  # threads would take turns at one stream
    return table


def _rows(
    name: str, file: ParquetFile, label: str | None, boxes: str | None, index: ClassIndex
) -> dict[str, Entry]:
    """Return {image id: row} of a file, or only the file if labels or boxes can't be read."""
    nothing = [None] * file.metadata.num_rows
    try:
        labels = nothing if label is None else file.values(label)
        box_lists = nothing if boxes is None else file.values(boxes)
    except Unreadable as error:
        return {name: Entry(file.path, None, missing=f"the file is damaged: {reason_of(error)}")}
    # A million rows have few different labels, so that rows without boxes share notes.
    notes = {value: note_of(value, None, index) for value in set(labels)}
    entries = {}
    for row, (value, row_boxes) in enumerate(zip(labels, box_lists, strict=True)):
        note = notes[value] if row_boxes is None else note_of(value, row_boxes, index)
        entries[f"{name}/{row:0{DIGITS}}"] = Entry(file.path, row, note)
    return entries


def _checked(file: ParquetFile, image: str, label: str | None, boxes: str | None) -> str:
    """Return the path of the column with the images' bytes.

    Raises:
        BenchError: If a column doesn't exist or can't be used.
    """
    path = image
    texts = [as_text(name) for name in file.schema.names]
    columns = (("image", image), ("label", label), ("boxes", boxes))
    for (setting, column), (fits, expected) in zip(columns, FORMS, strict=True):
        if column is None:
            continue
        count = file.schema.names.count(column)
        if count != 1:
            amount = "several columns" if count else "no column"
            raise BenchError(
                f"{as_text(file.path)} has {amount} {column!r} for data.{setting}; its columns are "
                f"{short_repr(', '.join(texts))[1:-1]}."
            )
        kind = file.schema.field(column).type
        # Hugging Face stores an image as a struct of its bytes and its path.
        if setting == "image" and pa.types.is_struct(kind) and kind.get_field_index(BYTES) >= 0:
            kind = kind.field(BYTES).type
            path = f"{image}.{BYTES}"
        if not fits(kind):
            raise BenchError(
                f"The column {column!r} of {as_text(file.path)} holds "
                f"{short_repr(str(kind))[1:-1]}; data.{setting} must name one that holds "
                f"{expected}."
            )
    return path


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _is_label(kind: pa.DataType) -> bool:
    text = kind.value_type if pa.types.is_dictionary(kind) else kind
    is_text = pa.types.is_string(text) or pa.types.is_large_string(text)
    return bool(pa.types.is_integer(kind) or is_text)


def _is_list_of_numbers(kind: pa.DataType, depth: int = 0) -> bool:
    """Return whether it is a list in which all values are numbers.

    A text in it could be repeated without bounds.
    """
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return _is_list_of_numbers(kind.value_type, depth + 1)
    if depth and pa.types.is_struct(kind):
        return all(
            _is_list_of_numbers(kind.field(number).type, depth + 1)
            for number in range(kind.num_fields)
        )
    return depth > 0 and (pa.types.is_integer(kind) or pa.types.is_floating(kind))


# For the columns of images, labels and boxes: a test of the type, and what the type must be.
FORMS = (
    (_is_bytes, f"bytes, or a struct with a field {BYTES!r}"),
    (_is_label, "class indices or names"),
    (_is_list_of_numbers, "lists of [x0, y0, x1, y1] or of {label, box}, of numbers"),
)
