"""Tables in Parquet files that are complete or not there, with a checksum over every byte.

Parquet's own page checksums are written and verified too, but they leave out page headers and the footer, where a
flipped bit can move a column or change a name. So each file also carries a SHA-256 over its name and all of its bytes,
in the footer's key `axiom_bench_sha256`, taken while that value is zeros. The name is in it so that no other intact
file is taken for this one; the files of earlier versions have a checksum without it, which is good as well.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from axiom_bench.errors import BenchError
from axiom_bench.records import files

_NAME = pa.dictionary(pa.int32(), pa.string())
SCHEMA = pa.schema(
    [
        ("experiment", _NAME),
        ("model", _NAME),
        ("layer", _NAME),
        ("data", _NAME),
        ("image_id", pa.string()),
        ("target_class", pa.int32()),  # class indices; -1: unknown
        ("predicted_class", pa.int32()),
        ("method", _NAME),  # "-" for a metric of the layer alone
        ("metric", _NAME),
        ("value", pa.float64()),  # NaN unless status is "ok"
        ("status", _NAME),
    ]
)
CURVES = pa.schema(
    [
        ("image_id", pa.string()),
        ("target_class", pa.int32()),
        ("method", _NAME),
        ("curve", _NAME),
        ("points", pa.list_(pa.float64())),
        ("status", _NAME),
    ]
)

CODED = SCHEMA.set(SCHEMA.get_field_index("image_id"), pa.field("image_id", _NAME))  # SCHEMA as readers take it fastest

METADATA = b"axiom_bench"  # the key of the metadata, as JSON
SEAL = b"axiom_bench_sha256"
_ZEROS = b"0" * 64
MAX_UNPACKED = 2**30  # bytes of a table, more than which must not be far more than those of its file
MAX_RATIO = 500  # records of a run have ten times their file's bytes
_OF_THE_MACHINE = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)  # reasons not to read that aren't the file's


class Damaged(BenchError):
    """A file whose bytes aren't those that were written."""


def write(
    path: Path,
    rows: pd.DataFrame | pa.Table,
    schema: pa.Schema | None = SCHEMA,
    metadata: Mapping[str, Any] | None = None,
    named: bool = True,
) -> None:
    """Writes rows as one Parquet file, completely or not at all. Raises BenchError, naming the folder, where it can't.

    schema: the columns and types; None takes what the rows have, for tables of another kind. metadata: plain data that
    says what the file holds; see `metadata_of`. named: the checksum is also of the name, so that a file that is renamed
    counts as damaged.
    """
    table = rows if isinstance(rows, pa.Table) else pa.Table.from_pandas(rows, schema, preserve_index=False)
    table = table.replace_schema_metadata(None)
    buffer = pa.BufferOutputStream()
    repeated = [column.name for column in table.schema if not pa.types.is_floating(column.type)]
    with pq.ParquetWriter(buffer, table.schema, use_dictionary=repeated, write_page_checksum=True) as writer:
        writer.write_table(table)
        notes = {} if metadata is None else {METADATA: json.dumps(metadata, sort_keys=True).encode()}
        writer.add_key_value_metadata({**notes, SEAL: _ZEROS})
    files.write(path, seal(path.name if named else "", buffer.getvalue().to_pybytes()))


def read(folder: Path, paths: Iterable[str]) -> pd.DataFrame:
    """The rows of these files of a run folder, in this order. Raises BenchError where one is missing or damaged."""
    tables = [read_table(folder / path, SCHEMA) for path in paths]
    return to_frame(tables, SCHEMA)


def read_table(path: Path, schema: pa.Schema | None = None, sealed: bool = False) -> pa.Table:
    """One file as an Arrow table, of these columns and types. Raises BenchError, naming it, for a file that can't be
    read, is damaged, or has other columns. sealed: see `content_of`."""
    return parse(path, content_of(path, sealed), schema)


def parse(path: Path, content: bytes, schema: pa.Schema | None = None) -> pa.Table:
    """The table in a file's content, see `content_of`. Raises BenchError as `read_table`."""
    try:
        _check_size(pq.read_metadata(pa.BufferReader(content)), len(content))
        names = [field.name for field in schema or () if pa.types.is_dictionary(field.type)]
        table = pq.read_table(pa.BufferReader(content), page_checksum_verification=True, read_dictionary=names)
        return table if schema is None else table.cast(schema)
    except (OSError, ValueError, TypeError, pa.ArrowException) as error:  # columns of another name, order or kind
        raise _unreadable(path, error) from error


def _check_size(about: pq.FileMetaData, length: int) -> None:
    """Raises ValueError where the footer says that a small file unpacks to a large table; a repeated text it doesn't
    tell."""
    groups = [about.row_group(number) for number in range(about.num_row_groups)]
    columns = [group.column(place) for group in groups for place in range(group.num_columns)]
    unpacked = sum(max(column.total_uncompressed_size, 4 * column.num_values) for column in columns)
    if unpacked > MAX_UNPACKED and unpacked > MAX_RATIO * length:
        raise ValueError(f"it would unpack from {length:,} to {unpacked:,} bytes")


def content_of(path: Path, sealed: bool = False) -> bytes:
    """A file's bytes. Raises `Damaged` where there is no such file, or its checksum doesn't match.

    sealed: it must have a checksum; else one without, as an earlier version or somebody else may write, is let through.
    """
    try:
        content = files.read(path)
    except FileNotFoundError as error:
        raise Damaged(f"The file {path} can't be read: it is missing; run the same command again.") from error
    except OSError as error:
        raise _unreadable(path, error) from error
    if not _is_intact(path.name, content, sealed):
        raise Damaged(f"The file {path} is damaged (its checksum doesn't match); run the same command again.")
    return content


def is_usable(path: Path, columns: Collection[str]) -> bool:
    """Whether a file is there, its bytes are those that were written, and it is a table with these columns, or with
    none of them something else. One that is there and can't be used is told: see `files.warn_damaged`."""
    try:
        content = content_of(path, sealed=True)
        usable = not columns or is_of(content, columns)
    except Damaged:
        usable = False
    if not usable and os.path.lexists(path):
        files.warn_damaged(path)
    return usable


def is_of(content: bytes, columns: Collection[str]) -> bool:
    """Whether a file's content is a table with these columns."""
    try:
        return set(columns) <= set(pq.read_schema(pa.BufferReader(content)).names)
    except (OSError, ValueError):
        return False


def metadata_of(content: bytes) -> dict[str, Any] | None:
    """The `metadata` that a file was written with, from its content; None where it has none."""
    try:
        entries = pq.read_metadata(pa.BufferReader(content)).metadata or {}
        return json.loads(entries[METADATA]) if METADATA in entries else None
    except (OSError, ValueError):
        return None


def to_frame(tables: Iterable[pa.Table], schema: pa.Schema) -> pd.DataFrame:
    """The rows of several tables of one schema."""
    return pa.concat_tables([schema.empty_table(), *tables]).unify_dictionaries().to_pandas()


def seal(name: str, content: bytes) -> bytes:
    """The content with its checksum, in the place that its writer left for it: SEAL, two bytes and 64 zeros. name: of
    the file."""
    place = _seal_place(content)
    assert place is not None
    return content[:place] + _digest(content, place, name) + content[place + 64 :]


def _is_intact(name: str, content: bytes, sealed: bool) -> bool:
    place = _seal_place(content)
    if place is None:
        return not sealed
    own = content[place : place + 64]
    return own == _digest(content, place, name) or own == _digest(content, place)


def _seal_place(content: bytes) -> int | None:
    """Where the checksum stands: behind the last occurrence of its name, and the two bytes of its length."""
    name = content.rfind(SEAL)
    place = name + len(SEAL) + 2
    return place if name >= 0 and place + 64 <= len(content) else None


def _digest(content: bytes, place: int, name: str = "") -> bytes:
    """In hexadecimal. name: "" leaves it out."""
    digest = hashlib.sha256(name.encode(errors="replace"))
    digest.update(memoryview(content)[:place])
    digest.update(_ZEROS)
    digest.update(memoryview(content)[place + 64 :])
    return digest.hexdigest().encode()


def _unreadable(path: Path, error: Exception) -> BenchError:
    kind = BenchError if isinstance(error, OSError) and error.errno in _OF_THE_MACHINE else Damaged
    return kind(f"The file {path} can't be read ({error}); run the same command again.")
