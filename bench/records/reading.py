"""Read a finished run: its manifest, and the records, curves and run times that the manifest lists.

A record file may also hold values of other commands. Only the values whose keys the manifest names
count. The same is true of the methods of run times and of values of whole data sets.
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

from axiom_bench.columns import LAYER, RUNTIME_COLUMNS, UNKNOWN_CLASS, WHOLE_SET
from axiom_bench.errors import plural
from axiom_bench.records import artefacts, record_files, running, store
from axiom_bench.records.by_metric import NAMES, PLACE, Builder, Records
from axiom_bench.records.entries import Manifest
from axiom_bench.records.files import Damaged
from axiom_bench.records.record_files import Values

WHOLE_SET_COLUMNS = tuple(store.WHOLE_SET.names)
METHOD = NAMES.index("method")


class CurvePart(NamedTuple):
    """The curves of one file in columns.CURVE_COLUMNS, all of one model, layer and data set."""

    model: str
    layer: str
    data: str
    table: pa.Table


def read_manifest(folder: Path) -> Manifest:
    """Return the parsed manifest.json.

    If a command hasn't ended, return the manifest of the values so far: see `running.read`.

    Raises:
        BenchError: If the manifest is missing, can't be read or isn't a run's manifest, or if a
            file or folder that is read or written leads out of the run folder: see `artefacts`.
    """
    folder = Path(folder)
    artefacts.check_folders(folder)
    manifest = running.read(folder) or artefacts.read(folder)
    artefacts.check_files(folder, manifest)
    return manifest


def read_run(folder: str | Path) -> pd.DataFrame:
    """Return the values of a run folder, one row per image, method and metric.

    The columns are those of `axiom_bench.evaluate`.

    A value of the layer, such as that of `zeta`, belongs to no method and has the method "-". The
    values of the whole data set, at the end, have the image id "*". With xarray,
    `.set_index([...])["value"].to_xarray()` turns columns into dimensions.

    Args:
        folder: The run folder. A leading ~ is your home folder.

    Returns:
        The rows, with names as categories.

    Raises:
        BenchError: If the folder isn't a run folder, or is damaged.
    """
    folder = Path(os.path.expanduser(folder))
    return read_records(folder, read_manifest(folder))


def read_records(folder: Path, manifest: Manifest) -> pd.DataFrame:
    """Return the rows that the manifest counts, job after job.

    They have the columns columns.RECORD_COLUMNS; names are categories.

    The values of whole data sets are at the end and have the image id "*". Raise BenchError, with
    the file's name, if a file is missing or damaged.
    """
    return store.to_frame(_record_tables(Path(folder), manifest, store.SCHEMA), store.SCHEMA)


def read_by_metric(
    folder: Path, manifest: Manifest, class_metrics: Collection[str] = ()
) -> tuple[Records, Records]:
    """Return the rows of `read_records` in compact form, as two parts.

    The second part has the metrics of `class_metrics`, whose values are indices of classes, which
    no statistic may average. The first part has all others.

    One file is read at a time. Raise BenchError like `read_records`.
    """
    builder = Builder()
    class_builder = Builder()
    for table in _read_ahead(_record_tables(Path(folder), manifest, store.CODED)):
        if class_metrics:
            is_class = _is_one_of(table["metric"], class_metrics)
            class_builder.add(table.filter(is_class))
            table = table.filter(arrow.invert(is_class))
        builder.add(table)
    return builder.records(), class_builder.records()


def _record_tables(folder: Path, manifest: Manifest, schema: pa.Schema) -> Iterator[pa.Table]:
    """Yield the rows of each file that counts, and the values of whole data sets at the end."""
    for file, content, values in record_files.counted_files(folder, manifest):
        table = store.parse(folder / file.name, content, schema)
        yield select_values(table, values, file.values, file.names, "metric")
    constants: dict[str, object] = {
        "experiment": str(manifest.experiment),
        "image_id": WHOLE_SET,
        "target_class": UNKNOWN_CLASS,
        "predicted_class": UNKNOWN_CLASS,
    }
    for table in _whole_set_tables(folder, manifest):
        columns = {}
        for name in schema.names:
            is_constant = name in constants
            columns[name] = [constants[name]] * len(table) if is_constant else table[name]
        yield pa.table(columns).cast(schema)


def _read_ahead(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """Yield the tables.

    A thread makes the next table while the caller uses the current one, because hashing and
    unpacking release Python's lock.
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
    """Yield the curves that the manifest counts, one file at a time.

    The curves of all files together may take gigabytes.

    `curves` has the names of the wanted curves (`None`: all), and `method` the only wanted method
    (`None`: all). Raise BenchError like `read_records`.
    """
    folder = Path(folder)
    for file, content, values in record_files.counted_files(folder, manifest):
        metrics: set[str] = set()
        for keys in values.values():
            metrics.update(keys)
        if file.curve_file is None or not file.curves.keys() & metrics:
            continue
        table = store.read_table(folder / file.curve_file, store.CURVES, file.curves_sha256)
        table = select_values(table, values, file.values, file.curves, "curve")
        if curves is not None:
            table = table.filter(_is_one_of(table["curve"], curves))
        if method is not None:
            table = table.filter(_is_one_of(table["method"], [method]))
        if len(table):
            # all rows of a file are of one model, layer and data set
            first = store.parse(folder / file.name, content).select(PLACE).slice(0, 1).to_pylist()
            model, layer, data = map(str, first[0].values() if first else ("", "", ""))
            yield CurvePart(model, layer, data, table)


def _is_one_of(column: pa.ChunkedArray, names: Collection[str]) -> pa.ChunkedArray:
    return arrow.is_in(column.cast(pa.string()), pa.array(list(names), pa.string()))


def read_runtime(folder: Path, manifest: Manifest) -> pd.DataFrame:
    """Return the run times in columns.RUNTIME_COLUMNS; the table is empty if none were measured.

    Raise BenchError if a file is missing or damaged.

    Combined runs may have timed one model, layer and data set on several devices. Only the times of
    the first run's device count then, because milliseconds of two machines can't be compared.
    """
    tables = [
        _table(Path(folder), manifest, name, store.RUNTIME).to_pandas() for name in manifest.runtime
    ]
    if not tables:
        return pd.DataFrame(columns=list(RUNTIME_COLUMNS))
    rows = pd.concat(tables, ignore_index=True)
    rows = rows[rows["method"].isin(_counted_methods(manifest))].reset_index(drop=True)
    if not manifest.is_combined:
        no_rows: pd.DataFrame = rows
        return no_rows
    first_devices = rows.groupby(PLACE)["device"].transform("first")
    rows = rows[rows["device"] == first_devices]
    unique_rows: pd.DataFrame = rows.drop_duplicates([*PLACE, "method", "step"], ignore_index=True)
    return unique_rows


def read_whole_set(folder: Path, manifest: Manifest) -> pd.DataFrame:
    """Return the values of whole data sets with their bootstrap replicates, in WHOLE_SET_COLUMNS.

    Raise BenchError if a file is missing or damaged.
    """
    tables = [table.to_pandas() for table in _whole_set_tables(Path(folder), manifest)]
    if not tables:
        return pd.DataFrame(columns=list(WHOLE_SET_COLUMNS))
    joined: pd.DataFrame = pd.concat(tables, ignore_index=True)
    return joined


def _table(folder: Path, manifest: Manifest, name: str, schema: pa.Schema) -> pa.Table:
    return store.parse(folder / name, artefacts.content_of(folder, manifest, name), schema)


def _counted_methods(manifest: Manifest) -> set[str]:
    """Return the methods of which the manifest counts values, and the name of the layer."""
    methods = {LAYER}
    for job in manifest.jobs:
        methods.update(job.values)
    return methods


def _whole_set_tables(folder: Path, manifest: Manifest) -> Iterator[pa.Table]:
    """Yield the tables of values of whole data sets, with each value of combined runs once."""
    methods = _counted_methods(manifest)
    read_keys: set[tuple[str, ...]] = set()
    for file in dict.fromkeys(manifest.whole_set):
        table = _table(folder, manifest, file, store.WHOLE_SET)
        keys = list(zip(*(table[name].to_pylist() for name in NAMES), strict=True))
        if len(set(keys)) < len(keys):
            raise Damaged(
                f"The file {folder / file} holds a value twice; run the same command again."
            )
        is_counted = [key not in read_keys and key[METHOD] in methods for key in keys]
        yield table.filter(pa.array(is_counted, pa.bool_()))
        if manifest.is_combined:
            read_keys.update(keys)


def select_values(
    table: pa.Table,
    values: Values,
    all_values: Values,
    names: Mapping[str, Collection[str]],
    column: str,
) -> pa.Table:
    """Return the rows of the chosen values.

    `values` are the chosen values, `all_values` those of the table, and `names` the names that a
    metric has in `column`.
    """
    if values == all_values:
        return table
    methods = table["method"].combine_chunks()
    metrics = table[column].combine_chunks()
    # One decision per pair of names, which is looked up for each row by the names' codes.
    is_kept = np.zeros((len(methods.dictionary), len(metrics.dictionary)), dtype=bool)
    for row, method in enumerate(methods.dictionary.to_pylist()):
        wanted: set[str] = set()
        for metric in values.get(method, ()):
            wanted.update(names.get(metric, ()))
        is_kept[row] = [name in wanted for name in metrics.dictionary.to_pylist()]
    return table.filter(pa.array(is_kept[np.asarray(methods.indices), np.asarray(metrics.indices)]))


def status(folder: Path) -> Iterator[str]:
    """Yield the lines of `axiom-bench status`, read from the run folder only.

    They list the jobs that are done, continue and have failed.

    Raise BenchError if the folder holds no run.
    """
    manifest = read_manifest(folder)
    sentences = running.progress_sentences(manifest)
    if manifest.state == running.RUNNING:
        yield f"{folder}: {running.holder(folder)}."
    if sentences:
        yield from sentences
    else:
        failed = {failure.job for failure in manifest.failures}
        end = f"its last command ended on {manifest.created}"
        if failed:
            yield f"{folder} isn't complete: {end}, and jobs failed."
        else:
            yield f"{folder} is done: {end}."
        for job in manifest.jobs:
            if job.images or job.job not in failed:
                yield f"{job.job}: {plural(job.images, 'image')}."
    for failure in manifest.failures:
        yield f"failed: {failure.job}: {failure.message}"
