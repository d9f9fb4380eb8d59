"""Parquet files with a row for each image, as Hugging Face publishes ImageNet: the image's own
bytes, and its label.

Images are read as a stream, row by row, so that a process holds a page of a column and never a row
group, however large these are.
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
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from axiom_bench.data.formats.files import Paths, as_text, files_named, open_regular, shown, why
from axiom_bench.data.layouts.classes import Classes, ClassIndex, class_list, index_of_classes
from axiom_bench.data.layouts.packed import Entry, note_of, packed_table
from axiom_bench.data.layouts.table import Table
from axiom_bench.errors import BenchError
from axiom_bench.kinds import Name

SUFFIX = ".parquet"
DIGITS = 9  # of a row's number in an id
BYTES = "bytes"  # the field of an image that is a struct
MAX_IMAGE = 2**28  # bytes of one image's file
BUFFER = 2**20
ROWS = 1024  # of a small column that are read at once
LAYOUT = "Parquet files with a row for each image"


class Unreadable(OSError):
    """A file, or a part of one, that can't be read, and why."""


@contextmanager
def _reading() -> Iterator[None]:
    """Raises Unreadable in place of what pyarrow raises for a damaged file."""
    try:
        yield
    except (pa.ArrowException, OSError, ValueError, TypeError) as error:
        raise Unreadable(str(error).split("\n")[0] or type(error).__name__) from error


@dataclass(frozen=True)
class ParquetFile:
    """starts: the first row of each row group, and the number of all rows behind them."""

    path: Path
    metadata: pq.FileMetaData
    schema: pa.Schema
    starts: tuple[int, ...]

    @staticmethod
    @_reading()
    def of(path: Path) -> ParquetFile:
        """Reads the footer. Raises Unreadable."""
        open_regular(path).close()  # a pipe would be waited for
        with pq.ParquetFile(path, pre_buffer=False) as file:
            metadata, schema = file.metadata, file.schema_arrow
        sizes = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
        starts = tuple(accumulate(sizes, initial=0))
        if starts[-1] != metadata.num_rows or min(starts) < 0:
            raise Unreadable(f"its row groups have {starts[-1]:,} rows of {metadata.num_rows:,}")
        return ParquetFile(path, metadata, schema, starts)

    def class_names(self, column: str | None) -> list[str]:
        """Of a column of labels, where the file is one of Hugging Face's data sets, which keep them
        in the footer.
        """
        try:
            names = json.loads((self.schema.metadata or {})[b"huggingface"])["info"]["features"][
                column
            ]["names"]
        except (KeyError, TypeError, ValueError, RecursionError):
            return []
        return (
            names
            if isinstance(names, list) and all(isinstance(name, str) for name in names)
            else []
        )

    def values(self, column: str) -> list[Any]:
        """All of a small column, as Python has them. Raises Unreadable."""
        with _reading(), self._opened() as file:
            batches = file.iter_batches(ROWS, columns=[column], use_threads=False)
            values = [value for batch in batches for value in batch.column(0).to_pylist()]
        if len(values) != self.metadata.num_rows:
            raise Unreadable(
                f"its column {column!r} has {len(values):,} rows of {self.metadata.num_rows:,}"
            )
        return values

    def rows(self, column: str, group: int) -> Iterator[pa.Scalar]:
        """The bytes of the rows of a row group, each a scalar. Raises Unreadable."""
        with _reading(), self._opened() as file:
            for batch in file.iter_batches(
                1, row_groups=[group], columns=[column], use_threads=False
            ):
                array = batch.column(0)
                while pa.types.is_struct(array.type):
                    (array,) = array.flatten()
                yield array[0]

    def _opened(self) -> pq.ParquetFile:
        options = {"pre_buffer": False, "buffer_size": BUFFER, "page_checksum_verification": True}
        return pq.ParquetFile(self.path, metadata=self.metadata, **options)


def _content(value: pa.Scalar) -> bytes:
    """The bytes of an image. Raises Unreadable."""
    if not value.is_valid:
        raise Unreadable("the row holds no image")
    if (size := value.as_buffer().size) > MAX_IMAGE:
        raise Unreadable(f"it has {size:,} bytes, more than {MAX_IMAGE:,}")
    content: bytes = value.as_py()
    return content


class Stream:
    """The bytes of images, read as a stream of each row group's values."""

    def __init__(self, columns: Mapping[Path, tuple[ParquetFile, str]]) -> None:
        self.columns = columns  # {path: file, and the path of the column in it}
        self._values: tuple[object, Iterator[pa.Scalar]] | None = None
        self._next = 0  # the row of the stream's group that it gives next

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_values": None}  # what is open doesn't travel to other processes

    def __call__(self, entry: Entry) -> bytes:
        """Return the bytes of a row; one that has passed is read from the start again. Raises
        Unreadable.
        """
        file, column = self.columns[entry.file]
        group = bisect_right(file.starts, entry.place) - 1
        row = entry.place - file.starts[group]
        place = entry.file, group, os.getpid()
        if self._values is None or self._values[0] != place or row < self._next:
            self._values = place, file.rows(column, group)
            self._next = 0
        try:
            for value in self._values[1]:
                self._next += 1
                if self._next > row:
                    return _content(value)
            raise Unreadable(f"its row group ends before row {row}")
        except Unreadable:
            self._values = None  # so that the next row of the group says the same
            raise


def parquet(
    path: Paths,
    image: Name = "image",
    label: Name | None = "label",
    boxes: Name | None = None,
    classes: Classes | None = None,
    name: Name = "parquet",
) -> Table:
    """Return the images of Parquet files; ids are "<file>/<row from 0, nine digits>",
    "validation-00000/000000123".

    path: see `files_named`. image: the column of the images, bytes or a struct with a field
    `bytes`. label, boxes: the columns of labels and boxes, see `note_of`; None for none. classes:
    in the order of the numbers (a list or a file); None: those that Hugging Face keeps in its
    files, else the numbers. A file that can't be read is a bad image by its name. Raises BenchError
    where none can be, and for a column that isn't there or is of another kind.
    """
    files: dict[str, ParquetFile] = {}
    entries: dict[str, Entry] = {}
    for each, place in files_named(path, SUFFIX).items():
        try:
            files[each] = ParquetFile.of(place)
        except Unreadable as error:
            entries[each] = Entry(
                place, None, missing=f"the file is damaged or no Parquet: {why(error)}"
            )
    stream = Stream(
        {file.path: (file, _checked(file, image, label, boxes)) for file in files.values()}
    )
    if classes is not None:
        names = class_list(classes)
    else:
        listed: Sequence[str] = next((file.class_names(label) for file in files.values()), ())
        names = {str(number): as_text(each) for number, each in enumerate(listed)}
    for each, file in files.items():
        entries |= _rows(each, file, label, boxes, index_of_classes(names))
    table = packed_table(__name__, name, names, entries, stream, LAYOUT, "they have no rows", image)
    table.threads_may_read = False  # they would take turns at one stream
    return table


def _rows(
    name: str, file: ParquetFile, label: str | None, boxes: str | None, index: ClassIndex
) -> dict[str, Entry]:
    """Return {image id: row} of a file; of one whose labels or boxes can't be read it is the file
    alone.
    """
    try:
        labels, listed = (
            [None] * file.metadata.num_rows if column is None else file.values(column)
            for column in (label, boxes)
        )
    except Unreadable as error:
        return {name: Entry(file.path, None, missing=f"the file is damaged: {why(error)}")}
    notes = {
        value: note_of(value, None, index) for value in set(labels)
    }  # of a million rows few differ
    return {
        f"{name}/{row:0{DIGITS}}": Entry(
            file.path, row, notes[value] if of_row is None else note_of(value, of_row, index)
        )
        for row, (value, of_row) in enumerate(zip(labels, listed, strict=True))
    }


def _checked(file: ParquetFile, image: str, label: str | None, boxes: str | None) -> str:
    """The path of the column with the images' bytes. Raises BenchError where a column isn't there
    or can't be used.
    """
    path, texts = image, [as_text(name) for name in file.schema.names]
    for setting, column, (fits, wanted) in zip(
        ("image", "label", "boxes"), (image, label, boxes), FORMS, strict=True
    ):
        if column is None:
            continue
        if file.schema.names.count(column) != 1:
            raise BenchError(
                f"{as_text(file.path)} has no column {column!r} for data.{setting}; its columns "
                f"are {shown(', '.join(texts))[1:-1]}."
            )
        of = file.schema.field(column).type
        if setting == "image" and pa.types.is_struct(of) and of.get_field_index(BYTES) >= 0:
            of, path = of.field(BYTES).type, f"{image}.{BYTES}"
        if not fits(of):
            raise BenchError(
                f"The column {column!r} of {as_text(file.path)} holds {shown(str(of))[1:-1]}; "
                f"data.{setting} must name one that holds {wanted}."
            )
    return path


def _is_bytes(of: pa.DataType) -> bool:
    return pa.types.is_binary(of) or pa.types.is_large_binary(of)


def _is_label(of: pa.DataType) -> bool:
    text = of.value_type if pa.types.is_dictionary(of) else of
    return pa.types.is_integer(of) or pa.types.is_string(text) or pa.types.is_large_string(text)


def _is_list_of_numbers(of: pa.DataType, depth: int = 0) -> bool:
    """Whether it is a list, and all in it numbers: a text in it could be repeated without
    bounds.
    """
    if pa.types.is_list(of) or pa.types.is_large_list(of) or pa.types.is_fixed_size_list(of):
        return _is_list_of_numbers(of.value_type, depth + 1)
    if depth and pa.types.is_struct(of):
        return all(
            _is_list_of_numbers(of.field(place).type, depth + 1) for place in range(of.num_fields)
        )
    return depth > 0 and (pa.types.is_integer(of) or pa.types.is_floating(of))


FORMS = (  # of the columns of images, labels and boxes: whether a type fits, and what it must be
    (_is_bytes, f"bytes, or a struct with a field {BYTES!r}"),
    (_is_label, "class indices or names"),
    (_is_list_of_numbers, "lists of [x0, y0, x1, y1] or of {label, box}, of numbers"),
)
