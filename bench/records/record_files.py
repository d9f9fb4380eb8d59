"""The record files of a run folder, and the values of shards that each of them has.

A file `records/<shard key>-<8 digits of its SHA-256>.parquet` has the values that one command
computed for one shard. If the shard has curves, they are in the file of the same name in `curves/`.
The metadata is a dict, see `RecordFile`. It has a random "id", except in published files, so that
no other file has the same name, not even a damaged one of the same values. A file has a value if
the key of its (method, metric) is the wanted key.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal
from uuid import uuid4

import pandas as pd
import pyarrow as pa
from pydantic import BaseModel, ValidationError

from axiom_bench.records import artefacts, files, store
from axiom_bench.records.entries import Manifest
from axiom_bench.records.files import Damaged
from axiom_bench.records.store import WriterOption

FORMAT = 2
KEY_LENGTH = 32  # hexadecimal digits: 128 bits
RECORDS = "records"  # folders of a run folder
CURVES = "curves"
Values = Mapping[str, Mapping[str, str]]  # {method: {metric: key}}
_NAME = re.compile(r"([0-9a-f]{32})-([0-9a-f]{8})\.parquet")


def key(**facts: object) -> str:
    """Return a hash over named facts, which are plain data (other objects count by their `str`), in
    any order of the names.
    """
    text = json.dumps(facts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:KEY_LENGTH]


class RecordFile(BaseModel, frozen=True):
    """A complete record file, as its metadata describe it."""

    format: Literal[2]
    name: str
    """The file, relative to the run folder."""
    shard: str
    """The key of the shard."""
    values: dict[str, dict[str, str]]
    names: dict[str, list[str]]
    """{metric: the names of its values}."""
    curves: dict[str, list[str]]
    """{metric: the names of its curves}."""
    axes: dict[str, object]
    """{curve: how to draw it}."""
    turned: dict[str, bool] = {}
    """{id of an image with an EXIF orientation: True if the orientation is applied}."""
    curves_sha256: str | None = None
    """The hash of the file of curves."""

    @property
    def curve_file(self) -> str | None:
        """The file of curves; None if there are no curves."""
        return curve_file(self.name) if self.curves else None

    def values_in(self, wanted: Values) -> dict[str, dict[str, str]]:
        """Return the wanted values that are in this file."""
        return _filter_values(
            wanted, lambda method, metric, key: self.values.get(method, {}).get(metric) == key
        )


@dataclass(frozen=True)
class RecordFiles:
    """The record files of a run folder."""

    files: Mapping[str, list[RecordFile]]
    """{shard key: its files}."""
    damaged: tuple[str, ...] = ()
    """The names of files, of records and of their curves, whose bytes changed."""

    def missing_values(self, shard: str, wanted: Values) -> dict[str, dict[str, str]]:
        """Return the wanted values of a shard that no file has."""
        return self._look_up(shard, wanted)[1]

    def files_for(self, shard: str, wanted: Values) -> list[RecordFile]:
        """Return the files to read for the wanted values of a shard."""
        return self._look_up(shard, wanted)[0]

    def manifest_entries(self, shards: Iterable[str], wanted: Values) -> dict[str, object]:
        """Return the manifest's entries of the needed files of these shards: records, curves and
        axes.
        """
        needed: list[RecordFile] = []
        for shard in shards:
            needed.extend(self.files_for(shard, wanted))
        axes: dict[str, object] = {}
        for file in needed:
            axes.update(file.axes)
        return {
            "records": [file.name for file in needed],
            "curves": [file.curve_file for file in needed if file.curve_file is not None],
            "axes": axes,
        }

    def _look_up(
        self, shard: str, wanted: Values
    ) -> tuple[list[RecordFile], dict[str, dict[str, str]]]:
        """Return (the files with wanted values, the wanted values that no file has)."""
        needed: list[RecordFile] = []
        rest = {method: dict(metrics) for method, metrics in wanted.items()}
        for file in self.files.get(shard, ()):
            if found := file.values_in(rest):
                needed.append(file)
                rest = without_values(rest, found)
        return needed, rest


def read(folder: Path, shards: Collection[str] | None = None) -> RecordFiles:
    """Return the record files of these shards in the run folder (`None`: of all shards), with every
    byte of them checked.
    """
    complete: dict[str, list[RecordFile]] = {}
    damaged: list[str] = []
    for path in sorted((folder / RECORDS).glob("*.parquet")):
        match = _NAME.fullmatch(path.name)
        if match is None or (shards is not None and match[1] not in shards):
            continue
        name = f"{RECORDS}/{path.name}"
        file = None
        with suppress(Damaged):
            file, _ = open_file(folder, name, artefacts.hash_of(path) or match[2])
        broken = [] if file else [name]
        curves = curve_file(name)
        # the curves of a damaged file count as damaged if they exist and aren't intact themselves
        has_curves = bool(file.curves) if file else os.path.lexists(folder / curves)
        curves_sha256 = file.curves_sha256 if file else None
        if has_curves and not _are_curves(folder / curves, curves_sha256):
            broken.append(curves)
        damaged.extend(broken)
        if file and not broken:
            complete.setdefault(file.shard, []).append(file)
    return RecordFiles(complete, tuple(damaged))


def _are_curves(path: Path, sha256: str | None) -> bool:
    """Return whether a file has curves and, if it is given, this hash."""
    try:
        return set(store.CURVES.names) <= set(store.columns_of(files.content_of(path, sha256)))
    except Damaged:
        return False


def open_file(folder: Path, name: str, sha256: str | None = None) -> tuple[RecordFile, bytes]:
    """Return (the metadata of a record file, its content).

    `sha256` is the hash of its bytes, or the first digits of the hash. Raise `Damaged` if the bytes
    aren't as they were written, or if the name is that of another shard.
    """
    match = _NAME.fullmatch(PurePosixPath(name).name)
    content = files.content_of(folder / name, sha256)
    with suppress(ValidationError, TypeError):  # metadata may be any JSON
        metadata = {**(store.metadata_of(content) or {}), "name": name}
        file = RecordFile.model_validate(metadata, strict=True)
        is_of_shard = match is not None and match[1] == file.shard
        if is_of_shard and set(store.SCHEMA.names) <= set(store.columns_of(content)):
            return file, content
    raise Damaged(f"The file {folder / name} holds no records; run the same command again.")


def write(
    folder: Path,
    shard: str,
    values: Values,
    rows: pd.DataFrame,
    curves: pd.DataFrame,
    notes: Mapping[str, object],
    schema: pa.Schema = store.SCHEMA,
    **options: WriterOption,
) -> RecordFile:
    """Write the values that one command computed for one shard, and return their file.

    `notes` has further fields of `RecordFile`: names, curves, axes and so on. `schema` and
    `options` are those of `store.to_bytes`. Raise BenchError if a file can't be written.
    """
    metadata: dict[str, object] = {
        "format": FORMAT,
        "shard": shard,
        "values": values,
        "id": uuid4().hex,
        **notes,
    }
    curve_content = store.to_bytes(curves, store.CURVES) if notes["curves"] else b""
    if curve_content:
        metadata["curves_sha256"] = files.sha256(curve_content)
    content = store.to_bytes(rows, schema, metadata, **options)
    name = f"{RECORDS}/{shard}-{files.sha256(content)[:8]}.parquet"
    # curves come first: if the record file exists, both are complete
    if curve_content:
        files.write(folder / curve_file(name), curve_content)
    files.write(folder / name, content)
    return RecordFile.model_validate({**metadata, "name": name})


def remove(folder: Path, names: Iterable[str]) -> None:
    """Delete record files and their files of curves. `names` may be names of either."""
    for name in {PurePosixPath(name).name for name in names}:
        files.make_way(folder / RECORDS / name)
        files.make_way(folder / CURVES / name)


def without_values(values: Values, excluded: Values) -> dict[str, dict[str, str]]:
    """Return the values except the excluded ones. Methods without values left are dropped."""
    return _filter_values(values, lambda method, metric, _: metric not in excluded.get(method, {}))


def _filter_values(
    values: Values, is_chosen: Callable[[str, str, str], bool]
) -> dict[str, dict[str, str]]:
    """Return the values for which `is_chosen(method, metric, key)`. Methods without any are
    dropped.
    """
    chosen: dict[str, dict[str, str]] = {}
    for method, metrics in values.items():
        chosen_metrics = {
            metric: key for metric, key in metrics.items() if is_chosen(method, metric, key)
        }
        if chosen_metrics:
            chosen[method] = chosen_metrics
    return chosen


def merge_values(parts: Iterable[Values]) -> dict[str, dict[str, str]]:
    """Return the values of all parts. If two parts have a value, the later key counts."""
    values: dict[str, dict[str, str]] = {}
    for part in parts:
        for method, metrics in part.items():
            values.setdefault(method, {}).update(metrics)
    return values


def curve_file(name: str) -> str:
    """Return the file of curves that belongs to a file of records, which may be of another run
    folder: "../run/records/...".
    """
    path = PurePosixPath(name)
    return str(path.parent.parent / CURVES / path.name)


def counted_files(folder: Path, manifest: Manifest) -> Iterator[tuple[RecordFile, bytes, Values]]:
    """Yield (a record file that a manifest counts, its content, the values to take from it), each
    value once.

    Raise BenchError, which names the file, if a file is missing or damaged.
    """
    values_by_shard: dict[str, dict[str, dict[str, str]]] = {}
    for job in manifest.jobs:
        for name in job.records:
            file, content = open_file(folder, name, manifest.sha256.get(name))
            earlier = values_by_shard.get(file.shard, {})
            if new := without_values(file.values_in(job.values), earlier):
                values_by_shard[file.shard] = merge_values([earlier, new])
                yield file, content, new
