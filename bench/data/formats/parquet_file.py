"""One Parquet file of images: its footer, its small columns, and the bytes of one row after another.

Images are read as a stream, row by row, so that a process holds a page of a column and never a row group, however
large these are. A column that the footer says would unpack to far more than it has is refused before it is read.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from axiom_bench.data.formats.reading import open_regular

MAX_IMAGE = 2**28  # bytes of one image's file
MAX_ROWS = 100_000_000  # of a file; each costs some bytes of memory
MAX_VALUES = 20_000_000  # of labels or boxes in a row group: a list may claim any number of equal values
MAX_UNPACKED = 2**30  # bytes of a part of a column, more than which must not be far more than its bytes in the file
MAX_RATIO = 50  # images hardly pack, and labels that do are few
BUFFER = 2**20
ROWS = 1024  # of a small column that are read at once


T = TypeVar("T")


class Unreadable(OSError):
    """A file, or a part of one, that can't be read, and why."""


@dataclass(frozen=True)
class ParquetFile:
    """starts: the first row of each row group, and the number of all rows behind them."""

    path: Path
    metadata: pq.FileMetaData
    schema: pa.Schema
    starts: tuple[int, ...]

    @staticmethod
    def of(path: Path) -> ParquetFile:
        """Reads the footer. Raises Unreadable."""

        def read() -> ParquetFile:
            open_regular(path).close()  # a pipe would be waited for
            with pq.ParquetFile(path, pre_buffer=False) as file:
                metadata, schema = file.metadata, file.schema_arrow
            starts = [0]
            for group in range(metadata.num_row_groups):
                starts.append(starts[-1] + metadata.row_group(group).num_rows)
            if not starts[-1] == metadata.num_rows <= MAX_ROWS or min(starts) < 0:
                raise Unreadable(f"its row groups have {starts[-1]:,} rows of {metadata.num_rows:,}")
            return ParquetFile(path, metadata, schema, tuple(starts))

        return _tried(read)

    def class_names(self, column: str | None) -> list[str]:
        """Of a column of labels, where the file is one of Hugging Face's data sets, which keep them in the footer."""
        try:
            names = json.loads((self.schema.metadata or {})[b"huggingface"])["info"]["features"][column]["names"]
        except (KeyError, TypeError, ValueError, RecursionError):
            return []
        return names if isinstance(names, list) and all(isinstance(name, str) for name in names) else []

    def values(self, column: str) -> list[Any]:
        """All of a small column, as Python has them; equal texts are one. Raises Unreadable."""

        def read() -> list[Any]:
            self._check(column, range(self.metadata.num_row_groups), MAX_VALUES)
            of = self.schema.field(column).type
            is_text = pa.types.is_string(of) or pa.types.is_large_string(of)
            with self._opened([column] if is_text else None) as file:
                batches = file.iter_batches(ROWS, columns=[column], use_threads=False)
                return [value for batch in batches for value in _listed(batch.column(0))]

        values = _tried(read)
        if len(values) != self.metadata.num_rows:
            raise Unreadable(f"its column {column!r} has {len(values):,} rows of {self.metadata.num_rows:,}")
        return values

    def rows(self, column: str, group: int) -> Iterator[pa.Scalar]:
        """The bytes of the rows of a row group, each a scalar. Raises Unreadable."""
        self._check(column, [group], MAX_ROWS)
        with _tried(self._opened) as file:
            batches = file.iter_batches(1, row_groups=[group], columns=[column], use_threads=False)
            while (batch := _tried(lambda: next(batches, None))) is not None:
                yield _leaf(batch)

    def _opened(self, as_dictionaries: list[str] | None = None) -> pq.ParquetFile:
        return pq.ParquetFile(
            self.path,
            metadata=self.metadata,
            read_dictionary=as_dictionaries,
            pre_buffer=False,
            buffer_size=BUFFER,
            page_checksum_verification=True,
        )

    def _check(self, column: str, groups: range | list[int], most: int) -> None:
        """Raises Unreadable where the footer says that a column would take too much memory."""
        for group in groups:
            about = self.metadata.row_group(group)
            for place in range(about.num_columns):
                part = about.column(place)
                if part.path_in_schema != column and not part.path_in_schema.startswith(f"{column}."):
                    continue
                packed, unpacked = part.total_compressed_size, part.total_uncompressed_size
                if unpacked > MAX_UNPACKED and unpacked > MAX_RATIO * packed:
                    raise Unreadable(f"its column {column!r} would unpack from {packed:,} to {unpacked:,} bytes")
                if part.num_values > most:
                    raise Unreadable(f"its column {column!r} has {part.num_values:,} values, more than {most:,}")


class Stream:
    """One column's values of one row group in ascending order; a row that has passed is read from the start again."""

    def __init__(self, file: ParquetFile, column: str, group: int) -> None:
        self.place, self.process = (file.path, group), os.getpid()
        self.rows, self.next = file.rows(column, group), 0

    def reaches(self, file: ParquetFile, group: int, row: int) -> bool:
        """Whether this stream, of this process, comes to a row of the group."""
        return (self.place, self.process) == ((file.path, group), os.getpid()) and row >= self.next

    def read(self, row: int) -> bytes:
        """The bytes of a row of the group. Raises Unreadable."""
        for value in self.rows:
            self.next += 1
            if self.next > row:
                return _bytes(value)
        raise Unreadable(f"its row group ends before row {row}")


def _listed(array: pa.Array) -> list[Any]:
    """The values; of a dictionary each once in memory, however often it is repeated."""
    if not pa.types.is_dictionary(array.type):
        return array.to_pylist()
    texts = array.dictionary.to_pylist()
    return [None if place is None else texts[place] for place in array.indices.to_pylist()]


def _leaf(batch: pa.RecordBatch) -> pa.Scalar:
    """The only value of one row, without the structs around it."""
    array = batch.column(0)
    while pa.types.is_struct(array.type):
        (array,) = array.flatten()
    return array[0]


def _bytes(value: pa.Scalar) -> bytes:
    if not value.is_valid:
        raise Unreadable("the row holds no image")
    size = value.as_buffer().size
    if size > MAX_IMAGE:
        raise Unreadable(f"it has {size:,} bytes, more than {MAX_IMAGE:,}")
    content: bytes = value.as_py()
    return content


def _tried(read: Callable[[], T]) -> T:
    """What `read` returns. Raises Unreadable in place of what pyarrow raises for a damaged file."""
    try:
        return read()
    except (pa.ArrowException, OSError, ValueError, TypeError) as error:
        raise Unreadable(str(error).split("\n")[0] or type(error).__name__) from error
