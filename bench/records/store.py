"""Tables in Parquet files and arrays in .npz files, which are complete or absent. Pages have
Parquet's checksums, which leave out page headers and the footer; so the manifest has a hash of each
file.
"""

from __future__ import annotations

import io
import json
import os
import textwrap
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NotRequired, TypedDict
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
_TEXT = pa.string()
_NUMBER = pa.float64()
_NUMBERS = pa.list_(pa.float64())
WriterOption = str | int | list[str]  # the value of an option of pyarrow's ParquetWriter


def _fields(kind: pa.DataType, *names: str) -> list[pa.Field]:
    """Return columns in which no row lacks a value."""
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
        *_fields(_TEXT, "image_id"),
        *_fields(pa.int32(), "target_class"),
        *_fields(_NAME, "method", "curve"),
        ("points", _NUMBERS),
        *_fields(_NAME, "status"),
    ]
)
WHOLE_SET = pa.schema(
    [
        *_fields(_TEXT, *PLACE, "method", "metric"),
        ("value", _NUMBER),
        *_fields(_TEXT, "status"),
        *_fields(pa.int64(), "images", "rows"),
        ("common_value", _NUMBER),
        *_fields(pa.int64(), "common_images", "common_rows"),
        *_fields(_NUMBERS, "replicates", "common_replicates"),
    ]
)
_RUNTIME_TEXTS = (*PLACE, "method", "step", "device")
_RUNTIME_TYPES = {"batch_size": pa.int64(), **dict.fromkeys(_RUNTIME_TEXTS, pa.large_string())}
RUNTIME = pa.schema([(name, _RUNTIME_TYPES.get(name, _NUMBER)) for name in RUNTIME_COLUMNS])
# Values are published in this schema.
COMPACT = SCHEMA.set(SCHEMA.get_field_index("value"), pa.field("value", pa.float32()))
# Readers parse a file of SCHEMA fastest in this one.
CODED = SCHEMA.set(SCHEMA.get_field_index("image_id"), *_fields(_NAME, "image_id"))

METADATA = b"axiom_bench"  # the key of the metadata, as JSON
# A small file of a stranger must not fill the memory when it is unpacked. An archive may have
# MAX_UNPACKED bytes. A table may have more if they are at most MAX_RATIO times those of its file.
MAX_UNPACKED = 2**30
MAX_RATIO = 500  # records of a run have ten times their file's bytes


def write(
    path: Path,
    rows: pd.DataFrame | pa.Table,
    schema: pa.Schema | None = SCHEMA,
    metadata: Mapping[str, object] | None = None,
    **options: WriterOption,
) -> None:
    """Write rows as one Parquet file, completely or not at all.

    The parameters are those of `to_bytes`. Raise BenchError, which names the folder, if the file
    can't be written.
    """
    files.write(path, to_bytes(rows, schema, metadata, **options))


def to_bytes(
    rows: pd.DataFrame | pa.Table,
    schema: pa.Schema | None = SCHEMA,
    metadata: Mapping[str, object] | None = None,
    **options: WriterOption,
) -> bytes:
    """Return rows as the bytes of a Parquet file.

    `schema` has the columns and types; `None` keeps those of the rows, for tables of another kind.
    `metadata` is plain data that describes the content of the file: see `metadata_of`. `options`
    are further options of pyarrow's ParquetWriter.
    """
    if isinstance(rows, pa.Table):
        table = rows
    else:
        table = pa.Table.from_pandas(rows, schema, preserve_index=False)
    table = table.replace_schema_metadata(None)
    repeated = [column.name for column in table.schema if not pa.types.is_floating(column.type)]
    buffer = io.BytesIO()
    with pq.ParquetWriter(
        buffer, table.schema, use_dictionary=repeated, write_page_checksum=True, **options
    ) as writer:
        writer.write_table(table)
        if metadata is not None:  # the metadata of a schema would be in the file twice
            text = json.dumps(metadata, sort_keys=True)
            writer.add_key_value_metadata({METADATA: text.encode()})
    return buffer.getvalue()


def read_table(path: Path, schema: pa.Schema | None = None, sha256: str | None = None) -> pa.Table:
    """Return one file as an Arrow table, with the columns and types of `schema`.

    Raise BenchError, which names the file, if it can't be read, is damaged, hasn't the hash
    `sha256`, or lacks a column.
    """
    return parse(path, files.content_of(path, sha256), schema)


def parse(path: Path, content: bytes, schema: pa.Schema | None = None) -> pa.Table:
    """Return the table in a file's content. Raise BenchError like `read_table`."""
    try:
        _check_size(pq.read_metadata(pa.BufferReader(content)), len(content))
        names = [field.name for field in schema or () if pa.types.is_dictionary(field.type)]
        table = pq.read_table(
            pa.BufferReader(content), page_checksum_verification=True, read_dictionary=names
        )
        return table if schema is None else table.select(schema.names).cast(schema)
    except (OSError, ValueError, TypeError, KeyError, pa.ArrowException) as error:
        # columns of another name or kind also end here
        raise files.unreadable(path, error) from error


def _check_size(about: pq.FileMetaData, length: int) -> None:
    """Raise ValueError if the footer says that a small file unpacks to a large table."""
    unpacked = 0
    for group_number in range(about.num_row_groups):
        group = about.row_group(group_number)
        for column_number in range(group.num_columns):
            column = group.column(column_number)
            # the footer counts a repeated text once; each row has a code of 4 bytes
            unpacked += max(column.total_uncompressed_size, 4 * column.num_values)
    if unpacked > MAX_UNPACKED and unpacked > MAX_RATIO * length:
        raise ValueError(f"it would unpack from {length:,} to {unpacked:,} bytes")


def is_usable(path: Path, columns: Collection[str] = (), notes: Notes = WARNINGS) -> bool:
    """Return whether a file of a run folder exists as it was written: arrays, or a table with these
    columns.

    A file that exists and isn't usable is added to the notes.
    """
    try:
        sha256 = artefacts.hash_of(path)
        if path.suffix == ".npz":
            names = set(read_arrays(path, sha256))
        else:
            names = set(read_table(path, sha256=sha256).column_names)
        if names.issuperset(columns):
            return True
    except BenchError:
        pass
    if os.path.lexists(path):
        notes.add(DamagedFile(str(path)))
    return False


def columns_of(content: bytes) -> list[str]:
    """Return the names of a Parquet file's columns, from its content; none if it isn't a Parquet
    file.
    """
    try:
        return list(pq.read_schema(pa.BufferReader(content)).names)
    except (OSError, ValueError):
        return []


def metadata_of(content: bytes) -> Any:
    """Return the `metadata` that a Parquet file was written with, from its content; None if it has
    none.
    """
    try:  # pq.read_schema takes metadata from an Arrow schema, which a published file lacks
        entries = pq.read_metadata(pa.BufferReader(content)).metadata or {}
        return json.loads(entries[METADATA]) if METADATA in entries else None
    except (OSError, ValueError):
        return None


def to_frame(tables: Iterable[pa.Table], schema: pa.Schema) -> pd.DataFrame:
    """Return the rows of several tables of one schema."""
    frame: pd.DataFrame = (
        pa.concat_tables([schema.empty_table(), *tables]).unify_dictionaries().to_pandas()
    )
    return frame


GALLERY = pa.schema(
    [
        *((name, _TEXT) for name in (*PLACE, "image_id")),
        # the explained class; a probability is null if the model's output has none
        ("target_class", pa.int32()),
        ("target_name", _TEXT),
        ("target_probability", _NUMBER),
        ("predicted_class", pa.int32()),
        ("predicted_name", _TEXT),
        ("predicted_probability", _NUMBER),
        # the size of the preprocessed image, in pixels
        ("width", pa.int32()),
        ("height", pa.int32()),
        # the boxes of the explained class: x0 y0 x1 y1, in these pixels
        ("boxes", pa.list_(pa.list_(pa.float32()))),
        ("picture", pa.binary()),  # WebP
        # PNG, transparent except for the edge of the explained class's mask; null: no mask
        ("outline", pa.binary()),
        ("methods", pa.list_(_TEXT)),  # the methods that apply
        # a map per method: WebP, grey, 255 for a heatmap's 1; empty: all zero; null: not finite
        ("maps", pa.list_(pa.binary())),
        # the mean of 1 - correlation over the pairs of maps; NaN: fewer than two maps
        ("disagreement", _NUMBER),
    ]
)


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write the arrays of picture figures, completely or not at all. Raise BenchError if the file
    can't be written.
    """
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    files.write(path, buffer.getvalue())


def read_arrays(path: Path, sha256: str | None = None) -> dict[str, np.ndarray]:
    """Return the arrays of a file. Raise `Damaged` if it is missing or damaged, or hasn't this
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
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        EOFError,
        BadZipFile,
        zlib.error,
        NotImplementedError,
        MemoryError,
    ) as error:
        # zipfile quotes what it read, which may be long
        reason = textwrap.shorten(str(error), 100, placeholder="...")
        raise files.Damaged(
            f"The pictures {path} can't be read ({reason}); run the same command again."
        ) from error


class GalleryRow(TypedDict):
    """One image and explained class of a gallery, in the columns of GALLERY."""

    model: str
    layer: str
    data: str
    image_id: str
    target_class: int
    target_name: str
    target_probability: float | None
    predicted_class: int
    predicted_name: str
    predicted_probability: float | None
    width: int
    height: int
    boxes: list[list[float]]
    picture: bytes
    outline: bytes | None
    methods: list[str]
    maps: list[bytes | None]
    disagreement: float
    top: NotRequired[Sequence[Sequence[str]]]
    """The most probable classes as [name, text]. Only `axiom-bench explain` knows them."""
    zero: NotRequired[Sequence[str]]
    """The methods whose map is zero everywhere, from `axiom-bench explain`."""


def read_gallery(folder: Path, manifest: Manifest) -> Iterator[GalleryRow]:
    """Yield a dictionary of GALLERY's columns per image and explained class; none if the run stored
    no gallery.

    Raise BenchError, which names the file, if a file is missing or damaged.
    """
    for file in dict.fromkeys(manifest.gallery):
        content = artefacts.content_of(Path(folder), manifest, file)
        yield from parse(Path(folder) / file, content, GALLERY).to_pylist()
