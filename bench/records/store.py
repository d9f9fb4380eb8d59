"""Records: long rows, one value each, in Parquet files that are either whole or not there."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

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
        ("target_class", pa.int32()),  # class indices; -1: not known
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


def write(path: Path, rows: pd.DataFrame, schema: pa.Schema | None = SCHEMA) -> None:
    """Writes rows as one Parquet file, whole or not at all. Raises BenchError, naming the folder, where it can't.

    schema: the records' columns and types; None takes what the rows have, for tables of another kind.
    """
    buffer = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pandas(rows, schema, preserve_index=False), buffer, write_page_checksum=True)
    files.write(path, buffer.getvalue().to_pybytes())


def read(folder: Path, paths: Iterable[str]) -> pd.DataFrame:
    """The rows of these files of a run folder, in this order. Raises BenchError where one is missing or broken."""
    return _read(folder, paths, SCHEMA)


def read_curves(folder: Path, paths: Iterable[str]) -> pd.DataFrame:
    """The curves of these files: one row per image and curve, points an array. Raises BenchError as `read`."""
    return _read(folder, paths, CURVES)


def _read(folder: Path, paths: Iterable[str], schema: pa.Schema) -> pd.DataFrame:
    tables = [read_table(folder / path, schema) for path in paths]
    return pa.concat_tables([schema.empty_table(), *tables]).unify_dictionaries().to_pandas()


def read_table(path: Path, schema: pa.Schema | None = None) -> pa.Table:
    """One file as an Arrow table, of these columns and types. Raises BenchError, naming it, for a file that can't be
    read or has other columns."""
    try:
        table = pq.read_table(path, page_checksum_verification=True)
        return table if schema is None else table.cast(schema)
    except (OSError, ValueError) as error:  # Arrow raises ValueError for columns of another name or order
        raise BenchError(f"The record file {path} can't be read ({error}); delete it and run again.") from error
