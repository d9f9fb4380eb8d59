"""Parquet files of a run folder: damaged as bytes, and well-formed ones of a stranger with other columns and values."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from axiom_bench.records import store
from axiom_bench.statistics.run_folder import RunFolder

from .. import made_run
from ..case import Case, Kind
from ..damage import damaged
from ..json_damage import changed


def attempt(case: Case) -> None:
    made_run.write(case.folder)
    name = case.random.choice(sorted(name for name in made_run.files() if name.endswith(".parquet")))
    path = case.folder / name
    if case.random.random() < 0.4:
        what, content = damaged(path.read_bytes(), case.random)
        case.say(f"{name}: {what}")
        path.write_bytes(content)
        made_run.check_read(case.folder, deep=False)
        return
    what = case.random.choice(sorted(CHANGES))
    case.say(f"{name}: {what}")
    content, table = path.read_bytes(), pq.read_table(path)
    notes = store.metadata_of(content)
    if case.random.random() < 0.2 and notes is not None:
        notes = changed(notes, case)
    store.write(path, CHANGES[what](table, case.random), schema=None, metadata=notes)
    run = RunFolder.read(case.folder)  # its checksum is right: it may be read
    made_run.tables(run)
    if case.random.random() < 0.1:
        made_run.summaries(run)


def _column(table: pa.Table, random: Random) -> int:
    return random.randrange(table.num_columns)


def _dropped(table: pa.Table, random: Random) -> pa.Table:
    return table.remove_column(_column(table, random))


def _renamed(table: pa.Table, random: Random) -> pa.Table:
    names = list(table.column_names)
    names[_column(table, random)] = random.choice([*names, "other", ""])
    return table.rename_columns(names)


def _of_another_type(table: pa.Table, random: Random) -> pa.Table:
    place, rows = _column(table, random), len(table)
    arrays = [
        [None] * rows,
        ["x"] * rows,
        [1] * rows,
        [0.5] * rows,
        [[0.5]] * rows,
        [b"\xff"] * rows,
        [{"a": 1}] * rows,
    ]
    return table.set_column(place, table.column_names[place], pa.array(random.choice(arrays)))


def _other_values(table: pa.Table, random: Random) -> pa.Table:
    """Of one column, in some rows."""
    place = _column(table, random)
    field = table.schema.field(place)
    plain = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    of_kind: list[Any] = [float("nan"), float("inf"), -1e308, None] if pa.types.is_floating(plain) else [None]
    of_kind = [-1, 2**31 - 1, None] if pa.types.is_integer(plain) else of_kind
    of_kind = ["", "*", "ok", "not a status", "x" * 5000, None] if pa.types.is_string(plain) else of_kind
    value = random.choice(of_kind)
    values = [value if random.random() < 0.5 else each for each in table.column(place).to_pylist()]
    return table.set_column(place, field.name, pa.array(values, plain).cast(field.type))


def _doubled(table: pa.Table, random: Random) -> pa.Table:
    return pa.concat_tables([table, table.slice(0, random.randint(1, len(table)))])


def _emptied(table: pa.Table, random: Random) -> pa.Table:
    return table.slice(0, 0)


def _fewer(table: pa.Table, random: Random) -> pa.Table:
    return table.slice(random.randrange(len(table)))


def _more_columns(table: pa.Table, random: Random) -> pa.Table:
    return table.append_column(random.choice(["other", *table.column_names]), pa.array([0] * len(table)))


CHANGES: dict[str, Callable[[pa.Table, Random], pa.Table]] = {
    "a column less": _dropped,
    "a column of another name": _renamed,
    "a column of another type": _of_another_type,
    "other values": _other_values,
    "rows twice": _doubled,
    "no rows": _emptied,
    "fewer rows": _fewer,
    "a column more": _more_columns,
}
KIND = Kind(attempt, share=100)
