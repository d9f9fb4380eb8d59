"""Tables in Parquet files and arrays in .npz files that are complete or not there. Pages have
Parquet's checksums, which leave out page headers and the footer: the manifest has a hash of each
file.
"""

from __future__ import annotations

import io
import json
import os
import textwrap
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from axiom_bench.columns import RUNTIME_COLUMNS
from axiom_bench.errors import BenchError
from axiom_bench.notes import WARNINGS, DamagedFile, Notes
from axiom_bench.records import artefacts, files
from axiom_bench.records.by_metric import PLACE
from axiom_bench.records.entries import Manifest

_NAME = pa.dictionary(pa.int32(), pa.string())
_TEXT, _NUMBER, _NUMBERS = pa.string(), pa.float64(), pa.list_(pa.float64())


def _fields(kind: pa.DataType, *names: str) -> list[pa.Field]:
    """Columns in which no row lacks a value."""
    return [pa.field(name, kind, nullable=False) for name in names]


SCHEMA = pa.schema(
    [
        *_fields(_NAME, "experiment", *PLACE),
        *_fields(_TEXT, "image_id"),
        *_fields(pa.int32(), "target_class", "predicted_class"),  # class indices; -1: unknown
        *_fields(_NAME, "method", "metric"),  # method "-" for a metric of the layer alone
        ("value", _NUMBER),  # NaN unless status is "ok"
        *_fields(_NAME, "status"),
    ]
)
CURVES = pa.schema(
    [
        *(
            *_fields(_TEXT, "image_id"),
            *_fields(pa.int32(), "target_class"),
            *_fields(_NAME, "method", "curve"),
        ),
        *(("points", _NUMBERS), *_fields(_NAME, "status")),
    ]
)
WHOLE_SET = pa.schema(
    [
        *_fields(_TEXT, *PLACE, "method", "metric"),
        *(("value", _NUMBER), *_fields(_TEXT, "status"), *_fields(pa.int64(), "images", "rows")),
        *(("common_value", _NUMBER), *_fields(pa.int64(), "common_images", "common_rows")),
        *_fields(_NUMBERS, "replicates", "common_replicates"),
    ]
)
_OF_TEXT = (*PLACE, "method", "step", "device")
RUNTIME = pa.schema(
    [(name, pa.large_string() if name in _OF_TEXT else _NUMBER) for name in RUNTIME_COLUMNS]
).set(RUNTIME_COLUMNS.index("batch_size"), pa.field("batch_size", pa.int64()))
COMPACT = SCHEMA.set(
    SCHEMA.get_field_index("value"), pa.field("value", pa.float32())
)  # as values are published
CODED = SCHEMA.set(
    SCHEMA.get_field_index("image_id"), *_fields(_NAME, "image_id")
)  # SCHEMA as readers take it fastest

METADATA = b"axiom_bench"  # the key of the metadata, as JSON
MAX_UNPACKED = (
    2**30
)  # bytes of an archive, or of a table; of this more must not be far more than those of its file
MAX_RATIO = 500  # records of a run have ten times their file's bytes


def write(
    path: Path, rows: pd.DataFrame | pa.Table, schema: pa.Schema | None = SCHEMA, **options: Any
) -> None:
    """Writes rows as one Parquet file, completely or not at all. options: see `to_bytes`. Raises
    BenchError, naming the folder, where it can't.
    """
    files.write(path, to_bytes(rows, schema, **options))


def to_bytes(
    rows: pd.DataFrame | pa.Table, schema: pa.Schema | None = SCHEMA, metadata: Mapping[str, Any] | None = None,
    **compressed: Any,
) -> bytes:  # fmt: skip
    """Rows as a Parquet file. schema: the columns and types; None takes what the rows have, for
    tables of another kind. metadata: plain data that says what the file holds; see `metadata_of`.
    compressed: of pyarrow's ParquetWriter.
    """
    table = (
        rows
        if isinstance(rows, pa.Table)
        else pa.Table.from_pandas(rows, schema, preserve_index=False)
    )
    table = table.replace_schema_metadata(None)
    repeated = [column.name for column in table.schema if not pa.types.is_floating(column.type)]
    buffer = io.BytesIO()
    options = {"use_dictionary": repeated, "write_page_checksum": True, **compressed}
    with pq.ParquetWriter(buffer, table.schema, **options) as writer:
        writer.write_table(table)
        if metadata is not None:  # those of the schema would stand in the file twice
            writer.add_key_value_metadata({METADATA: json.dumps(metadata, sort_keys=True).encode()})
    return buffer.getvalue()


def read_table(path: Path, schema: pa.Schema | None = None, sha256: str | None = None) -> pa.Table:
    """One file as an Arrow table, of these columns and types. Raises BenchError, naming it, for a
    file that can't be read, is damaged, hasn't this hash, or lacks a column.
    """
    return parse(path, files.content_of(path, sha256), schema)


def parse(path: Path, content: bytes, schema: pa.Schema | None = None) -> pa.Table:
    """The table in a file's content. Raises BenchError as `read_table`."""
    try:
        _check_size(pq.read_metadata(pa.BufferReader(content)), len(content))
        names = [field.name for field in schema or () if pa.types.is_dictionary(field.type)]
        table = pq.read_table(
            pa.BufferReader(content), page_checksum_verification=True, read_dictionary=names
        )
        return table if schema is None else table.select(schema.names).cast(schema)
    except (
        OSError,
        ValueError,
        TypeError,
        KeyError,
        pa.ArrowException,
    ) as error:  # columns of another name or kind
        raise files.unreadable(path, error) from error


def _check_size(about: pq.FileMetaData, length: int) -> None:
    """Raises ValueError where the footer says that a small file unpacks to a large table; a
    repeated text it doesn't tell.
    """
    groups = [about.row_group(number) for number in range(about.num_row_groups)]
    columns = [group.column(place) for group in groups for place in range(group.num_columns)]
    unpacked = sum(max(column.total_uncompressed_size, 4 * column.num_values) for column in columns)
    if unpacked > MAX_UNPACKED and unpacked > MAX_RATIO * length:
        raise ValueError(f"it would unpack from {length:,} to {unpacked:,} bytes")


def is_usable(path: Path, columns: Collection[str] = (), notes: Notes = WARNINGS) -> bool:
    """Return whether a file of a run folder is there as it was written: arrays, or a table with
    these columns.

    A file that is there and isn't usable is added to the notes.
    """
    try:
        sha256 = artefacts.hash_of(path)
        names = (
            read_arrays(path, sha256)
            if path.suffix == ".npz"
            else read_table(path, sha256=sha256).column_names
        )
        if set(columns) <= set(names):
            return True
    except BenchError:
        pass
    if os.path.lexists(path):
        notes.add(DamagedFile(str(path)))
    return False


def columns_of(content: bytes) -> list[str]:
    """The names of a Parquet file's columns, from its content; none where it is no such file."""
    try:
        return list(pq.read_schema(pa.BufferReader(content)).names)
    except (OSError, ValueError):
        return []


def metadata_of(content: bytes) -> Any:
    """The `metadata` that a Parquet file was written with, from its content; None where it has
    none.
    """
    try:  # a published file has no Arrow schema, which pq.read_schema takes the metadata from
        entries = pq.read_metadata(pa.BufferReader(content)).metadata or {}
        return json.loads(entries[METADATA]) if METADATA in entries else None
    except (OSError, ValueError):
        return None


def to_frame(tables: Iterable[pa.Table], schema: pa.Schema) -> pd.DataFrame:
    """The rows of several tables of one schema."""
    return pa.concat_tables([schema.empty_table(), *tables]).unify_dictionaries().to_pandas()


GALLERY = pa.schema(
    [
        *((name, _TEXT) for name in (*PLACE, "image_id")),
        *(
            ("target_class", pa.int32()),
            ("target_name", _TEXT),
            ("target_probability", _NUMBER),
        ),  # the explained class
        *(
            ("predicted_class", pa.int32()),
            ("predicted_name", _TEXT),
            ("predicted_probability", _NUMBER),
        ),
        *(("width", pa.int32()), ("height", pa.int32())),  # of the preprocessed image, in pixels
        (
            "boxes",
            pa.list_(pa.list_(pa.float32())),
        ),  # of the explained class: x0 y0 x1 y1, in these pixels
        ("picture", pa.binary()),  # WebP
        (
            "outline",
            pa.binary(),
        ),  # PNG, transparent but for the edge of the explained class's mask; null: no mask
        ("methods", pa.list_(_TEXT)),  # those that apply
        (
            "maps",
            pa.list_(pa.binary()),
        ),  # of each method: WebP, grey, 255 for a heatmap's 1; empty: all zero; null: not finite
        (
            "disagreement",
            _NUMBER,
        ),  # mean of 1 - correlation over the pairs of maps; NaN: fewer than two
    ]
)  # a probability is null where the output has none


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes the arrays of picture figures, completely or not at all. Raises BenchError."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    files.write(path, buffer.getvalue())


def read_arrays(path: Path, sha256: str | None = None) -> dict[str, np.ndarray]:
    """The arrays of a file. Raises `Damaged` for one that is missing or damaged, or hasn't this
    hash.
    """
    content = files.content_of(path, sha256)
    try:
        with ZipFile(io.BytesIO(content)) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
        if unpacked > MAX_UNPACKED:
            raise ValueError(f"it would unpack to {unpacked:,} bytes")
        with np.load(io.BytesIO(content)) as arrays:
            return dict(arrays)
    except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile, zlib.error, NotImplementedError,
            MemoryError) as error:  # fmt: skip
        why = textwrap.shorten(str(error), 100, placeholder="...")  # zipfile's quotes what it read
        raise files.Damaged(
            f"The pictures {path} can't be read ({why}); run the same command again."
        ) from error


def read_gallery(folder: Path, manifest: Manifest) -> Iterator[dict[str, Any]]:
    """One image and explained class after the other, a dictionary of GALLERY's columns; nothing
    where the run stored none. Raises BenchError, naming the file, for one that is missing or
    damaged.
    """
    for file in dict.fromkeys(manifest.gallery):
        content = artefacts.content_of(Path(folder), manifest, file)
        yield from parse(Path(folder) / file, content, GALLERY).to_pylist()
