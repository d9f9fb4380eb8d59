"""Reading a finished run: the manifest, and the records, curves and run times that it counts. Of a
record file only the values count whose keys the manifest names: the file may also hold values of
other commands.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as arrow

from axiom_bench.columns import RUNTIME_COLUMNS, UNKNOWN_CLASS, WHOLE_SET
from axiom_bench.records import artefacts, record_files, running, store
from axiom_bench.records.by_metric import NAMES, PLACE, Builder, Records
from axiom_bench.records.entries import Manifest
from axiom_bench.records.files import Damaged
from axiom_bench.records.record_files import Values

WHOLE_SET_COLUMNS = tuple(store.WHOLE_SET.names)


class CurvePart(NamedTuple):
    """The curves of one file: columns.CURVE_COLUMNS, all of one model, layer and data set."""

    model: str
    layer: str
    data: str
    table: pa.Table


def read_manifest(folder: Path) -> Manifest:
    """Return the parsed manifest.json, or, if a command hasn't ended, that of the values so far:
    see `running.read`.

    Raises BenchError if it is missing, can't be read or isn't a run's manifest, and if a file or
    folder that is read or written leads out of the run folder: see `artefacts`.
    """
    folder = Path(folder)
    artefacts.check_folders(folder)
    manifest = running.read(folder) or artefacts.read(folder)
    artefacts.check_files(folder, manifest)
    return manifest


def read_run(folder: str | Path) -> pd.DataFrame:
    """The values of a run folder, in the columns of `axiom_bench.evaluate`: a row for each image,
    method and metric.

    Those of the whole data set, at the end, have image id "*". With xarray,
    `.set_index([...])["value"].to_xarray()` makes dimensions of columns. Raises BenchError for a
    folder that is none of a run, or damaged.
    """
    folder = Path(os.path.expanduser(folder))
    return read_records(folder, read_manifest(folder))


def read_records(folder: Path, manifest: Manifest) -> pd.DataFrame:
    """The rows that the manifest counts, job after job, in columns.RECORD_COLUMNS; names are
    categories. At the end the values of whole data sets, with image id "*". Raises BenchError,
    naming the file, for one that is missing or damaged.
    """
    return store.to_frame(_record_tables(Path(folder), manifest, store.SCHEMA), store.SCHEMA)


def read_by_metric(
    folder: Path, manifest: Manifest, apart: Collection[str] = ()
) -> tuple[Records, Records]:
    """As `read_records`, but compact, one file at a time: of all metrics but those `apart`, and of
    these.
    """
    builders = Builder(), Builder()
    for table in _ahead(_record_tables(Path(folder), manifest, store.CODED)):
        if apart:
            is_apart = _is_one_of(table["metric"], apart)
            builders[1].add(table.filter(is_apart))
            table = table.filter(arrow.invert(is_apart))
        builders[0].add(table)
    return builders[0].records(), builders[1].records()


def _record_tables(folder: Path, manifest: Manifest, schema: pa.Schema) -> Iterator[pa.Table]:
    """The rows of each file that counts; at the end values of whole data sets."""
    for file, content, values in record_files.of_manifest(folder, manifest):
        table = store.parse(folder / file.name, content, schema)
        yield chosen(table, values, file.values, file.names, "metric")
    for table in _whole_set_tables(folder, manifest):
        of_all: dict[str, object] = {"experiment": str(manifest.experiment), "image_id": WHOLE_SET}
        of_all |= {"target_class": UNKNOWN_CLASS, "predicted_class": UNKNOWN_CLASS}
        columns = {
            name: [of_all[name]] * len(table) if name in of_all else table[name]
            for name in schema.names
        }
        yield pa.table(columns).cast(schema)


def _ahead(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """The tables, each made by a thread while the one before it is used: hashing and unpacking let
    Python go on.
    """
    with ThreadPoolExecutor(1) as thread:
        upcoming = thread.submit(next, tables, None)
        while (table := upcoming.result()) is not None:
            upcoming = thread.submit(next, tables, None)
            yield table


def read_curves(
    folder: Path,
    manifest: Manifest,
    curves: Collection[str] | None = None,
    method: str | None = None,
) -> Iterator[CurvePart]:
    """The curves that the manifest counts, one file at a time: those of all files together may be
    gigabytes. curves: names of curves, None for all. method: of one method alone. Raises BenchError
    as `read_records`.
    """
    folder = Path(folder)
    for file, content, values in record_files.of_manifest(folder, manifest):
        metrics = {metric for of_method in values.values() for metric in of_method}
        if file.curve_file is None or not file.curves.keys() & metrics:
            continue
        table = store.read_table(folder / file.curve_file, store.CURVES, file.curves_sha256)
        table = chosen(table, values, file.values, file.curves, "curve")
        for column, wanted in (("curve", curves), ("method", None if method is None else [method])):
            if wanted is not None:
                table = table.filter(_is_one_of(table[column], wanted))
        if len(table):
            first = store.parse(folder / file.name, content).select(PLACE).slice(0, 1).to_pylist()
            model, layer, data = map(str, first[0].values() if first else ("", "", ""))
            yield CurvePart(model, layer, data, table)


def _is_one_of(column: pa.ChunkedArray, names: Collection[str]) -> pa.ChunkedArray:
    return arrow.is_in(column.cast(pa.string()), pa.array(list(names), pa.string()))


def read_runtime(folder: Path, manifest: Manifest) -> pd.DataFrame:
    """Run times in columns.RUNTIME_COLUMNS; the empty table where none were measured. Raises
    BenchError. Of combined runs that timed one model, layer and data set on several devices, those
    of the first run's device: milliseconds of two machines can't be compared.
    """
    tables = [
        _table(Path(folder), manifest, name, store.RUNTIME).to_pandas() for name in manifest.runtime
    ]
    rows = (
        pd.concat(tables, ignore_index=True)
        if tables
        else pd.DataFrame(columns=list(RUNTIME_COLUMNS))
    )
    if not tables or not manifest.is_combined:
        return rows
    rows = rows[rows["device"] == rows.groupby(PLACE)["device"].transform("first")]
    return rows.drop_duplicates([*PLACE, "method", "step"], ignore_index=True)


def read_whole_set(folder: Path, manifest: Manifest) -> pd.DataFrame:
    """Values of whole data sets with their bootstrap replicates, in WHOLE_SET_COLUMNS. Raises
    BenchError.
    """
    tables = [table.to_pandas() for table in _whole_set_tables(Path(folder), manifest)]
    return (
        pd.concat(tables, ignore_index=True)
        if tables
        else pd.DataFrame(columns=list(WHOLE_SET_COLUMNS))
    )


def _table(folder: Path, manifest: Manifest, name: str, schema: pa.Schema) -> pa.Table:
    return store.parse(folder / name, artefacts.content_of(folder, manifest, name), schema)


def _whole_set_tables(folder: Path, manifest: Manifest) -> Iterator[pa.Table]:
    """Of combined runs each value once."""
    taken: set[tuple[str, ...]] = set()
    for file in dict.fromkeys(manifest.whole_set):
        table = _table(folder, manifest, file, store.WHOLE_SET)
        keys = list(zip(*(table[name].to_pylist() for name in NAMES), strict=True))
        if len(set(keys)) < len(keys):
            raise Damaged(
                f"The file {folder / file} holds a value twice; run the same command again."
            )
        yield table.filter(pa.array([key not in taken for key in keys], pa.bool_()))
        taken |= set(keys) if manifest.is_combined else set()


def chosen(
    table: pa.Table, values: Values, held: Values, names: Mapping[str, Collection[str]], column: str
) -> pa.Table:
    """The rows of the chosen values. names: of each metric, as they stand in the column."""
    if values == held:
        return table
    methods, metrics = (table[name].combine_chunks() for name in ("method", column))
    keep = np.zeros((len(methods.dictionary), len(metrics.dictionary)), dtype=bool)
    for row, method in enumerate(methods.dictionary.to_pylist()):
        wanted = {name for metric in values.get(method, ()) for name in names.get(metric, ())}
        keep[row] = [name in wanted for name in metrics.dictionary.to_pylist()]
    return table.filter(pa.array(keep[np.asarray(methods.indices), np.asarray(metrics.indices)]))


def status(folder: Path) -> Iterator[str]:
    """`axiom-bench status`: lines on what of a run is done, goes on and has failed, from its folder
    alone. Raises BenchError for a folder that holds no run.
    """
    manifest = read_manifest(folder)
    sentences = running.sentences(manifest)
    if manifest.state == running.RUNNING:
        yield f"{folder}: {running.holder(folder)}."
    yield from sentences or [f"{folder} is done: its last command ended on {manifest.created}."]
    if not sentences:
        yield from (f"{job.job}: {job.images:,} images." for job in manifest.jobs)
    yield from (f"failed: {failure.job}: {failure.message}" for failure in manifest.failures)
