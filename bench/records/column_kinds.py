"""The kinds of a table's columns: what its readers rely on, whoever wrote the file."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import pyarrow as pa

from axiom_bench.records.store import Damaged

Kind = Callable[[pa.DataType], bool]


def is_text(of: pa.DataType) -> bool:
    """Names."""
    return pa.types.is_string(of) or pa.types.is_large_string(of) or (
        pa.types.is_dictionary(of) and is_text(of.value_type)
    )  # fmt: skip


def is_number(of: pa.DataType) -> bool:
    """Numbers; also a column in which nothing is given."""
    return pa.types.is_floating(of) or pa.types.is_integer(of) or pa.types.is_null(of)


def is_numbers(of: pa.DataType) -> bool:
    """Lists of numbers."""
    return pa.types.is_list(of) and is_number(of.value_type)


def checked(table: pa.Table, path: Path, kinds: Mapping[str, Kind], required: Collection[str]) -> pa.Table:
    """The columns that `kinds` names. Raises `Damaged` where a required one is missing, or one is of another kind."""
    names = table.column_names
    wrong = [name for name in required if names.count(name) != 1]
    wrong += [name for name in names if name in kinds and not kinds[name](table.schema.field(name).type)]
    if wrong:
        raise Damaged(f"The file {path} can't be used (its column {wrong[0]!r}); run the same command again.")
    return table.select([name for name in kinds if name in names])
