"""Finished run folders with a file that is damaged, missing or replaced, manifests and Parquet
files that a stranger made, and baselines.

If bytes are damaged, readers refuse the folder or read the same values, and the same command takes
only computed values as computed. Files that a stranger made are well-formed and may be read.
"""

from __future__ import annotations

import csv
import io
import json
import os
import tempfile
import warnings
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import note
from hypothesis import strategies as st

from axiom_bench.gate import gate
from axiom_bench.gate.baseline import Baseline
from axiom_bench.notes import DamagedFile
from axiom_bench.records import artefacts, files, reading, record_files, store
from axiom_bench.report.charts.pictures import load
from axiom_bench.report.tables.headline import result_lines
from axiom_bench.statistics.run_folder import RunFolder
from tests.fuzzing.damage import ANYTHING, changed, damaged
from tests.made_runs import entries_of, records_of, write_curves, write_entries, write_run

PLACE = {"model": "net", "layer": "last", "data": "scenes"}
METHODS = {"cam": {}, "grad_cam": {"params": {"n": 1}}}
REPLACEMENTS = ("deleted", "a folder", "a pipe", "a link", "another file")


def attempt(draw: st.DrawFn, folder: Path) -> None:
    of_kind = draw(st.sampled_from((_files, _files, _manifest, _records, _baseline)))
    note(of_kind.__name__)
    of_kind(draw, folder)


@cache
def made() -> Mapping[str, bytes]:
    """Return the contents by name of a small run folder with every kind of file that readers read.

    It is written once per process.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = write_run(
            Path(name), records_of(5, {"net": ("last",)}, METHODS), METHODS, {"net": ("last",)}
        )
        manifest = entries_of(folder)
        images = [f"scene_{number:05d}" for number in range(5)]
        curves = {"target_class": 0, "method": "cam", "curve": "iou_curve", "status": "ok"}
        points = pd.DataFrame(
            [{**curves, "image_id": image, "points": [0.0, 0.5, 1.0]} for image in images]
        )
        job = write_curves(folder, PLACE, points, 1)
        row = {
            **PLACE,
            "method": "cam",
            "metric": "best_iou",
            "value": 0.5,
            "status": "ok",
            "images": 5,
            "rows": 5,
        }
        row |= {"common_value": 0.5, "common_images": 5, "common_rows": 5}
        row |= {name: [0.4, 0.6] for name in ("replicates", "common_replicates")}
        store.write(
            folder / "whole_set/a.parquet",
            pa.Table.from_pylist([row], store.WHOLE_SET),
            schema=None,
        )
        picture = {
            **PLACE,
            "image_id": images[0],
            "target_class": 1,
            "picture": b"",
            "methods": ["cam"],
            "maps": [b""],
        }
        store.write(
            folder / "gallery/a.parquet",
            pa.Table.from_pylist([picture], store.GALLERY),
            schema=None,
        )
        lists = {
            "whole_set": ["whole_set/a.parquet"],
            "gallery": ["gallery/a.parquet"],
            "curves": job.pop("curves"),
        }
        about = {**manifest["metrics"], "best_iou": manifest["metrics"]["box_iou"]}
        write_entries(
            folder, {**manifest, **lists, "metrics": about, "jobs": [*manifest["jobs"], job]}
        )
        return {
            path.relative_to(folder).as_posix(): path.read_bytes()
            for path in folder.rglob("*")
            if path.is_file()
        }


def write(folder: Path) -> None:
    """Writes the run folder's files."""
    for name, content in made().items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


@cache
def undisturbed() -> tuple[Mapping[str, pd.DataFrame], bytes]:
    """Return the tables that readers make of the undamaged folder, and its baseline's file."""
    with tempfile.TemporaryDirectory() as name:
        write(Path(name))
        Baseline.of(RunFolder.read(Path(name))).write(Path(name) / "baseline.csv")
        return tables(Path(name)), (Path(name) / "baseline.csv").read_bytes()


def tables(folder: Path) -> dict[str, pd.DataFrame]:
    """Return all values of a run folder that report, gate and game read. Raise BenchError."""
    run = RunFolder.read(folder)
    pictures = [{"images": part.images.tobytes(), "of": str(part.methods)} for part in load(run)]
    curves = [part.table.to_pandas() for part in reading.read_curves(run.path, run.manifest)]
    records = run.records.frame()
    names = [name for name in records if records[name].dtype == "category"]
    return {
        "records": records.astype(dict.fromkeys(names, str)),
        "runtime": run.runtime.astype(dict.fromkeys(("model", "layer", "data", "method"), str)),
        "whole_set": run.whole_set,
        "curves": pd.concat(curves, ignore_index=True) if curves else pd.DataFrame(),
        "gallery": pd.DataFrame(store.read_gallery(run.path, run.manifest)),
        "pictures": pd.DataFrame(pictures),
    }


def check_same(folder: Path) -> None:
    """Read a run folder with a damaged file: BenchError is raised, or every value is unchanged."""
    for name, table in tables(folder).items():
        assert table.equals(undisturbed()[0][name]), f"other {name} were read"


def _summarise(draw: st.DrawFn, folder: Path) -> None:
    """Summarise the values now and then, since it takes several times as long as reading them."""
    if not draw(st.integers(0, 7)):
        run = RunFolder.read(folder)
        result_lines(run)
        Baseline.of(run)


def _files(draw: st.DrawFn, folder: Path) -> None:
    """Damage, remove or replace one file, or add a damaged one that no manifest lists and nobody
    reads.
    """
    write(folder)
    name = draw(st.sampled_from(sorted(made())))
    how = draw(st.sampled_from(("added", *("damaged",) * 6, *REPLACEMENTS)))
    note(f"{name}: {how}")
    if how in REPLACEMENTS:
        _replace(draw, folder / name, how)
    else:
        added = (
            "records/old.parquet",
            f"records/{'c' * 32}-00000000.parquet",
            f"{name}.tmp",
            "running",
        )
        other = name if how == "damaged" else draw(st.sampled_from(added))
        (folder / other).write_bytes(draw(damaged(made()[name])))
    with warnings.catch_warnings():
        warnings.simplefilter("error", DamagedFile)
        usable = record_files.read(folder)
    for shard, of_shard in usable.files.items():
        assert shard in {Path(name).name.partition("-")[0] for name in made()}, (
            f"other records of {shard}"
        )
        for file in of_shard:
            written = store.parse(Path(file.name), made()[file.name])
            assert store.read_table(folder / file.name).equals(written), (
                f"other rows in {file.name}"
            )
    check_same(folder)


def _manifest(draw: st.DrawFn, folder: Path) -> None:
    """Change the manifest: entries of another kind, missing, huge or deep, with or without a right
    checksum, or damaged bytes.
    """
    write(folder)
    path = folder / artefacts.NAME
    if not draw(st.integers(0, 4)):
        path.write_bytes(draw(damaged(path.read_bytes())))
        check_same(folder)
        return
    other = draw(changed(files.read_json(path)))
    is_right = draw(st.integers(0, 9)) < 7
    read_manifest(
        folder, files.to_json(path.name, other) if is_right else json.dumps(other).encode()
    )
    _summarise(draw, folder)


def read_manifest(folder: Path, content: bytes) -> None:
    """Read everything that readers make of a run folder with this manifest. Raise BenchError."""
    (folder / artefacts.NAME).write_bytes(content)
    tables(folder)
    reading.read_manifest(folder)


def _records(draw: st.DrawFn, folder: Path) -> None:
    """A Parquet file with other columns, rows, values or notes, and a right checksum; or damaged
    bytes.
    """
    write(folder)
    name = draw(st.sampled_from(sorted(name for name in made() if name.endswith(".parquet"))))
    note(name)
    if not draw(st.integers(0, 2)):
        (folder / name).write_bytes(draw(damaged(made()[name])))
        check_same(folder)
        return
    notes = store.metadata_of(made()[name])
    if notes is not None and not draw(st.integers(0, 3)):
        notes = draw(changed(notes))
    store.write(
        folder / name, draw(_other_table(pq.read_table(folder / name))), schema=None, metadata=notes
    )
    write_entries(folder, {**entries_of(folder), artefacts.HASHES: {}})
    tables(folder)
    _summarise(draw, folder)


@st.composite
def _other_table(draw: st.DrawFn, table: pa.Table) -> pa.Table:
    """A well-formed table that no run writes: columns less, more or of another name or type, other
    values or rows.
    """
    columns = {name: table[name] for name in table.column_names}
    name = draw(st.sampled_from(table.column_names))
    how = draw(st.sampled_from(("rows", "removed", "renamed", "other values", "another type")))
    note(f"{name}: {how}")
    if how == "rows":
        rows = draw(st.lists(st.integers(0, len(table) - 1), max_size=2 * len(table)))
        return table.take(pa.array(rows, pa.int64()))
    if how == "removed":
        return table.drop_columns([name])
    if how == "renamed":
        columns[draw(st.sampled_from([*columns, "other", ""]))] = columns.pop(name)
        return pa.table(columns)
    kind = table.schema.field(name).type
    plain = kind.value_type if pa.types.is_dictionary(kind) else kind
    values = {
        pa.types.is_floating: st.floats(), pa.types.is_integer: st.integers(-1, 2**31 - 1),
        pa.types.is_string: st.text(max_size=5) | st.sampled_from(("*", "ok", "x" * 5000)),
    }  # fmt: skip
    fitting = next((of_kind for is_kind, of_kind in values.items() if is_kind(plain)), st.none())
    other = st.sampled_from(columns[name].to_pylist()) | st.none() | fitting
    if how == "other values":
        cells = draw(st.lists(other, min_size=len(table), max_size=len(table)))
        columns[name] = pa.array(cells, plain).cast(kind)
    else:
        value = draw(st.sampled_from((None, "x", 1, 0.5, [0.5], b"\xff", {"a": 1})))
        columns[name] = pa.array([value] * len(table))
    return pa.table(columns)


def _baseline(draw: st.DrawFn, folder: Path) -> None:
    """Damage the bytes or cells of a baseline.

    It is read, written, read again, and compared with the run, which has the intact baseline.
    """
    lines = undisturbed()[1].decode().splitlines(keepends=True)
    first = sum(line.startswith("#") for line in lines)
    rows = list(csv.reader(io.StringIO("".join(lines[first:]))))
    is_intact = not draw(st.integers(0, 9))
    for _ in range(0 if is_intact else draw(st.integers(1, 3))):
        row = draw(st.sampled_from(rows))
        column = draw(st.integers(0, len(rows[0]) - 1))
        column_values = st.sampled_from([row[column] for row in rows])
        value = draw(column_values | st.text(max_size=20) | ANYTHING)
        row[column] = str(value)[: 10**5]
        note(f"a cell became {row[column][:40]!r}")
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows(rows)
    content = "".join([*lines[:first], file.getvalue()]).encode("utf-8", "surrogatepass")
    path = folder / "baseline.csv"
    path.write_bytes(content if is_intact or draw(st.booleans()) else draw(damaged(content)))
    write(folder / "run")
    result = gate(folder / "run", path)
    assert result.exit_code in (0, 1, 2), result.exit_code
    assert result.lines, "no word of why"
    assert result.exit_code == 0 or not is_intact, result.lines
    baseline = Baseline.read(path)
    baseline.write(folder / "copy.csv")
    again = Baseline.read(folder / "copy.csv")
    assert len(again.rows) == len(baseline.rows), "what was read and written has other rows"
    again.write(folder / "again.csv")
    assert (folder / "again.csv").read_bytes() == (folder / "copy.csv").read_bytes(), (
        "it reads otherwise"
    )


def _replace(draw: st.DrawFn, path: Path, how: str) -> None:
    """Replace a file by nothing, a folder, a pipe, a link (to nothing, itself, a device or another
    file), or another file's content.
    """
    others = sorted(other for other in path.parent.iterdir() if other != path and other.is_file())
    content = path.read_bytes()
    path.unlink()
    if how == "a folder":
        path.mkdir()
        (path / "mine.txt").write_text("mine")
    elif how == "a pipe":
        os.mkfifo(path)
    elif how == "a link":
        targets = (Path("nowhere"), Path(path.name), Path(os.devnull), Path("/dev/zero"), *others)
        path.symlink_to(draw(st.sampled_from(targets)))
    elif how == "another file":
        path.write_bytes(draw(st.sampled_from(sorted(set(made().values()) - {content}))))
