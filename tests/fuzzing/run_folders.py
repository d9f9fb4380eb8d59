"""Finished run folders: a file damaged, gone, or something else in its place; a stranger's manifests and Parquet files;
and baselines.

Where bytes are damaged, readers refuse the folder or read the same values, and what the same command would take as
computed is what was computed. What a stranger wrote is well-formed and may be read.
"""

from __future__ import annotations

import csv
import io
import json
import os
import warnings
from importlib import resources
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import note
from hypothesis import strategies as st

from axiom_bench.gate import gate
from axiom_bench.gate.baseline import COLUMNS, Baseline
from axiom_bench.records import artefacts, files, reading, record_files, store
from axiom_bench.report import stamp
from tests.fuzzing import made_run
from tests.fuzzing.damage import changed, damaged

REPLACEMENTS = ("deleted", "a folder", "a pipe", "a link", "another file")
ADDED = ("records/old.parquet", f"records/{'c' * 32}-00000000.parquet", "{}.tmp", "notes.txt", "running")
CHANGES = (
    "a column less", "another name", "another type", "other values", "rows twice", "no rows", "fewer rows",
    "a column more",
)  # fmt: skip
CELLS = (None, "x", 1, 0.5, [0.5], b"\xff", {"a": 1})  # of a column of another type
NUMBERS, PLACES = (float("nan"), float("inf"), -1e308, None), (-1, 2**31 - 1, None)
TEXTS = ("", "*", "ok", "not a status", "x" * 5000, None)
ODD = ("", "nan", "inf", "-1e400", "mean:-1", "mean:nan", "median:", "=1+1", "\x00", '"', "\ud7ff", "a" * 100_000)
GOOD = {  # cells of a baseline that another run may have
    "n": ("0", "1", "64", "999999999999"),
    "mean": ("", "0", "-1.5", "1e-30", "3e300", "0.123456789"),
    "median": ("", "0", "-1.5", "1e-30", "3e300", "0.123456789"),
    "statuses": ("", "ok:5", "ok:3 zero_map:2", "bad_image:5"),
    "tolerance": ("median:0.5%", "mean:0.01", "mean:1% median:1e-3", "median:0"),
}
GOOD_NAMES = ("other", "caf\xe9", "a b", "net (2)", "'quoted'", "a,b", 'a"b', "*", "-")


def attempt_files(draw: st.DrawFn, folder: Path) -> None:
    """One file damaged, gone or replaced, or a damaged one that no manifest lists and that counts for nothing."""
    made_run.write(folder)
    name = draw(st.sampled_from(sorted(made_run.files())))
    how = draw(st.sampled_from(("added",) * 3 + ("damaged",) * 8 + REPLACEMENTS * 2))
    note(f"{name}: {how}")
    if how in REPLACEMENTS:
        _replace(draw, folder / name, how)
    else:
        other = name if how == "damaged" else draw(st.sampled_from(ADDED)).format(name)
        (folder / other).write_bytes(draw(damaged(made_run.files()[name])))
    _check_held(folder)
    made_run.check_same(folder)


def attempt_manifest(draw: st.DrawFn, folder: Path) -> None:
    """Entries of another kind, missing, huge or deep, with a right checksum or none; or damaged bytes."""
    made_run.write(folder)
    path = folder / artefacts.NAME
    if not draw(st.integers(0, 4)):
        path.write_bytes(draw(damaged(path.read_bytes())))
        made_run.check_same(folder)
        return
    other = draw(changed(files.read_json(path)))
    read_manifest(
        folder, files.to_json(path.name, other) if draw(st.integers(0, 9)) < 7 else json.dumps(other).encode()
    )
    if not draw(st.integers(0, 6)):
        made_run.summarise(folder)


def read_manifest(folder: Path, content: bytes) -> None:
    """All that readers make of a run folder with this manifest. Raises BenchError."""
    (folder / artefacts.NAME).write_bytes(content)
    made_run.tables(folder)
    stamp.inputs(folder, reading.read_manifest(folder))


def attempt_records(draw: st.DrawFn, folder: Path) -> None:
    """A Parquet file with other columns, rows, values or notes, and a right checksum; or damaged bytes."""
    made_run.write(folder)
    name = draw(st.sampled_from(sorted(name for name in made_run.files() if name.endswith(".parquet"))))
    path, content = folder / name, made_run.files()[name]
    note(name)
    if draw(st.integers(0, 4)) < 2:
        path.write_bytes(draw(damaged(content)))
        made_run.check_same(folder)
        return
    notes = store.metadata_of(content)
    if notes is not None and not draw(st.integers(0, 4)):
        notes = draw(changed(notes))
    store.write(path, draw(_odd_table(pq.read_table(path))), schema=None, metadata=notes)
    artefacts.write(folder, {**artefacts.read(folder), artefacts.HASHES: {}})
    made_run.tables(folder)
    if not draw(st.integers(0, 9)):
        made_run.summarise(folder)


def attempt_baseline(draw: st.DrawFn, folder: Path) -> None:
    """The packaged one, which is read, written and read again; or one of the made run, through the gate."""
    path = folder / "baseline.csv"
    if draw(st.integers(0, 9)):
        packaged = (resources.files("axiom_bench") / "baselines" / "quick.csv").read_bytes()
        path.write_bytes(draw(_other_baseline(packaged)))
        baseline = Baseline.read(path)
        baseline.write(folder / "copy.csv")
        again = Baseline.read(folder / "copy.csv")
        assert len(again.rows) == len(baseline.rows), "what was read and written has other rows"
        again.write(folder / "again.csv")
        assert (folder / "again.csv").read_bytes() == (folder / "copy.csv").read_bytes(), "it reads otherwise"
        return
    made_run.write(folder / "run")
    is_intact = not draw(st.integers(0, 9))
    content = made_run.baseline()
    path.write_bytes(content if is_intact else draw(_other_baseline(content)))
    result = gate(folder / "run", path)
    assert result.exit_code in (0, 1, 2), result.exit_code
    assert result.lines, "no word of why"
    assert result.exit_code == 0 or not is_intact, result.lines


def _replace(draw: st.DrawFn, path: Path, how: str) -> None:
    """Nothing, a folder, a pipe, a link (to nothing, itself, a device or another file), or another file's content."""
    others = sorted(other for other in path.parent.iterdir() if other != path and other.is_file())
    content = path.read_bytes()
    path.unlink()
    if how == "a folder":
        path.mkdir()
        if draw(st.booleans()):
            (path / "mine.txt").write_text("mine")
    elif how == "a pipe":
        os.mkfifo(path)
    elif how == "a link":
        targets = (Path("nowhere"), Path(path.name), Path(os.devnull), Path("/dev/zero"), *others)
        path.symlink_to(draw(st.sampled_from(targets)))
    elif how == "another file":
        path.write_bytes(draw(st.sampled_from(sorted(set(made_run.files().values()) - {content}))))


def _check_held(folder: Path) -> None:
    """Of every shard nothing is missing, with the rows that were written, or all is."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", files.DamagedFile)
        held = record_files.read(folder)
    for shard in made_run.SHARDS:
        missing = held.missing(shard, made_run.VALUES)
        assert missing in ({}, made_run.VALUES), f"of {shard} a part is missing: {missing}"
        for file in held.needed(shard, made_run.VALUES):
            written = store.parse(Path(file.name), made_run.files()[file.name])
            assert store.read_table(folder / file.name).equals(written), f"other rows in {file.name}"


@st.composite
def _odd_table(draw: st.DrawFn, table: pa.Table) -> pa.Table:
    """A well-formed table that no run writes."""
    how, place = draw(st.sampled_from(CHANGES)), draw(st.integers(0, table.num_columns - 1))
    names, rows, start = list(table.column_names), len(table), draw(st.integers(0, len(table) - 1))
    note(f"{how}, {names[place]}")
    if how == "a column less":
        return table.remove_column(place)
    if how == "another name":
        names[place] = draw(st.sampled_from([*names, "other", ""]))
        return table.rename_columns(names)
    if how == "another type":
        return table.set_column(place, names[place], pa.array([draw(st.sampled_from(CELLS))] * rows))
    if how == "other values":
        return table.set_column(place, names[place], draw(_odd_column(table, place)))
    if how == "a column more":
        return table.append_column(draw(st.sampled_from(["other", *names])), pa.array([0] * rows))
    if how == "rows twice":
        return pa.concat_tables([table, table.slice(0, start + 1)])
    return table.slice(0, 0) if how == "no rows" else table.slice(start)


@st.composite
def _odd_column(draw: st.DrawFn, table: pa.Table, place: int) -> pa.Array:
    """The column with another value of its type in some rows."""
    kind = table.schema.field(place).type
    plain = kind.value_type if pa.types.is_dictionary(kind) else kind
    values: tuple[Any, ...] = NUMBERS if pa.types.is_floating(plain) else (None,)
    values = PLACES if pa.types.is_integer(plain) else values
    values = TEXTS if pa.types.is_string(plain) else values
    value, rows = draw(st.sampled_from(values)), draw(st.sets(st.integers(0, len(table) - 1), min_size=1))
    column = [value if row in rows else each for row, each in enumerate(table.column(place).to_pylist())]
    return pa.array(column, plain).cast(kind)


@st.composite
def _other_baseline(draw: st.DrawFn, content: bytes) -> bytes:
    """Damaged as bytes, or with other cells: those that another run may have, or what no run writes, also as a name."""
    how = draw(st.sampled_from(("bytes",) * 4 + ("odd",) * 5 + ("good",) * 11))
    if how == "bytes":
        return draw(damaged(content))
    lines = content.decode().splitlines(keepends=True)
    first = sum(line.startswith("#") for line in lines)
    rows = list(csv.reader(io.StringIO("".join(lines[first:]))))
    for _ in range(draw(st.integers(1, 3))):
        row = draw(st.sampled_from(rows if how == "odd" else rows[1:]))
        column = draw(st.integers(0, len(row) - 1))
        cell = row[column]
        odd = (*ODD, cell * 2, cell[::-1], cell.upper())
        row[column] = draw(st.sampled_from(odd if how == "odd" else GOOD.get(COLUMNS[column], GOOD_NAMES)))
        note(f"a cell became {row[column][:40]!r}")
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows(rows)
    return "".join([*lines[:first], file.getvalue()]).encode("utf-8", "surrogatepass")
