"""The record files of a run folder: which values of which shards they hold.

A file `records/<shard key>-<8 digits of its SHA-256>.parquet` holds what one command computed of
one shard; its curves, if it has any, are in the file of the same name in `curves/`. The metadata is
a dict, see `RecordFile`, with a random "id" but in published files, so that no other file has its
name, not even a damaged one of the same values. A value is there if the key of its (method, metric)
is the wanted one.
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
from typing import Any, Literal
from uuid import uuid4

import pandas as pd
from pydantic import BaseModel, ValidationError

from axiom_bench.records import artefacts, files, store
from axiom_bench.records.entries import Manifest
from axiom_bench.records.files import Damaged

FORMAT = 2
KEY_LENGTH = 32  # hexadecimal digits: 128 bits
RECORDS, CURVES = "records", "curves"  # folders
Values = Mapping[str, Mapping[str, str]]  # {method: {metric: key}}
_NAME = re.compile(r"([0-9a-f]{32})-([0-9a-f]{8})\.parquet")


def key(**facts: object) -> str:
    """A hash over named facts, plain data (other objects by their `str`), in any order of the
    names.
    """
    text = json.dumps(facts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:KEY_LENGTH]


class RecordFile(BaseModel, frozen=True):
    """A complete record file, as its metadata say. name: relative to the run folder. names: of each
    metric's values; curves: names of its curves; axes: {curve: how to draw it}. turned: {id of an
    image with an EXIF orientation: whether it is applied}. curves_sha256: of the file of curves.
    """

    format: Literal[2]
    name: str
    shard: str
    values: dict[str, dict[str, str]]
    names: dict[str, list[str]]
    curves: dict[str, list[str]]
    axes: dict[str, Any]
    turned: dict[str, bool] = {}
    curves_sha256: str | None = None

    @property
    def curve_file(self) -> str | None:
        return curve_file(self.name) if self.curves else None

    def holds(self, wanted: Values) -> dict[str, dict[str, str]]:
        """The wanted values that are in this file."""
        return _chosen(
            wanted, lambda method, metric, key: self.values.get(method, {}).get(metric) == key
        )


@dataclass(frozen=True)
class RecordFiles:
    """files: by shard key. damaged: names of files, of records and of their curves, whose bytes
    changed.
    """

    files: Mapping[str, list[RecordFile]]
    damaged: tuple[str, ...] = ()

    def missing(self, shard: str, wanted: Values) -> dict[str, dict[str, str]]:
        """The wanted values of a shard that no file holds."""
        return self._looked_up(shard, wanted)[1]

    def needed(self, shard: str, wanted: Values) -> list[RecordFile]:
        """The files to read for the wanted values of a shard."""
        return self._looked_up(shard, wanted)[0]

    def listed(self, shards: Iterable[str], wanted: Values) -> dict[str, Any]:
        """What a manifest has of the needed files of these shards: records, curves and axes."""
        files = [file for shard in shards for file in self.needed(shard, wanted)]
        return {
            "records": [file.name for file in files],
            "curves": [file.curve_file for file in files if file.curve_file is not None],
            "axes": {name: axes for file in files for name, axes in file.axes.items()},
        }

    def _looked_up(
        self, shard: str, wanted: Values
    ) -> tuple[list[RecordFile], dict[str, dict[str, str]]]:
        needed, rest = [], {method: dict(metrics) for method, metrics in wanted.items()}
        for file in self.files.get(shard, ()):
            if held := file.holds(rest):
                needed.append(file)
                rest = without(rest, held)
        return needed, rest


def read(folder: Path, shards: Collection[str] | None = None) -> RecordFiles:
    """The record files of these shards in the run folder (None: of all shards), every byte of them
    checked.
    """
    complete: dict[str, list[RecordFile]] = {}
    damaged = []
    for path in sorted((folder / RECORDS).glob("*.parquet")):
        match, name = _NAME.fullmatch(path.name), f"{RECORDS}/{path.name}"
        if match is None or (shards is not None and match[1] not in shards):
            continue
        file, curves = None, curve_file(name)
        with suppress(Damaged):
            file, _ = open_file(folder, name, artefacts.hash_of(path) or match[2])
        broken = [] if file else [name]
        if file.curves if file else os.path.lexists(folder / curves):
            broken += (
                []
                if _are_curves(folder / curves, file.curves_sha256 if file else None)
                else [curves]
            )
        damaged += broken
        if file and not broken:
            complete.setdefault(file.shard, []).append(file)
    return RecordFiles(complete, tuple(damaged))


def _are_curves(path: Path, sha256: str | None) -> bool:
    try:
        return set(store.CURVES.names) <= set(store.columns_of(files.content_of(path, sha256)))
    except Damaged:
        return False


def open_file(folder: Path, name: str, sha256: str | None = None) -> tuple[RecordFile, bytes]:
    """A record file by its metadata, and its content. sha256: of its bytes, or the first digits of
    it. Raises `Damaged` where the bytes aren't as they were written, or the name is that of another
    shard.
    """
    match, content = (
        _NAME.fullmatch(PurePosixPath(name).name),
        files.content_of(folder / name, sha256),
    )
    with suppress(ValidationError, TypeError):  # metadata may be any JSON
        file = RecordFile.model_validate(
            {**(store.metadata_of(content) or {}), "name": name}, strict=True
        )
        if (
            match
            and match[1] == file.shard
            and set(store.SCHEMA.names) <= set(store.columns_of(content))
        ):
            return file, content
    raise Damaged(f"The file {folder / name} holds no records; run the same command again.")


def write(
    folder: Path, shard: str, values: Values, rows: pd.DataFrame, curves: pd.DataFrame, notes: Mapping[str, Any],
    **options: Any,
) -> RecordFile:  # fmt: skip
    """Writes what one command computed of one shard. notes: names, curves, axes ..., see
    `RecordFile`. options: see `store.to_bytes`. Raises BenchError. The file of curves is written
    first: where the record file exists, both are complete.
    """
    metadata = {"format": FORMAT, "shard": shard, "values": values, "id": uuid4().hex, **notes}
    points = store.to_bytes(curves, store.CURVES) if notes["curves"] else b""
    if points:
        metadata["curves_sha256"] = files.sha256(points)
    content = store.to_bytes(rows, metadata=metadata, **options)
    name = f"{RECORDS}/{shard}-{files.sha256(content)[:8]}.parquet"
    if points:
        files.write(folder / curve_file(name), points)
    files.write(folder / name, content)
    return RecordFile.model_validate({**metadata, "name": name})


def remove(folder: Path, names: Iterable[str]) -> None:
    """Deletes record files, and with each its file of curves. names: of either."""
    for name in {PurePosixPath(name).name for name in names}:
        files.discard(folder / RECORDS / name)
        files.discard(folder / CURVES / name)


def without(values: Values, held: Values) -> dict[str, dict[str, str]]:
    """The values but for those that are held; methods of which none is left are dropped."""
    return _chosen(values, lambda method, metric, _: metric not in held.get(method, {}))


def _chosen(
    values: Values, is_chosen: Callable[[str, str, str], bool]
) -> dict[str, dict[str, str]]:
    """The values for which `is_chosen(method, metric, key)`; methods of which none is left are
    dropped.
    """
    chosen = {
        method: {metric: key for metric, key in metrics.items() if is_chosen(method, metric, key)}
        for method, metrics in values.items()
    }
    return {method: metrics for method, metrics in chosen.items() if metrics}


def together(parts: Iterable[Values]) -> dict[str, dict[str, str]]:
    """The values of all parts; of one that two parts have, the later key."""
    values: dict[str, dict[str, str]] = {}
    for part in parts:
        for method, metrics in part.items():
            values.setdefault(method, {}).update(metrics)
    return values


def curve_file(name: str) -> str:
    """The file of curves that belongs to a file of records, whose run folder may be another:
    "../run/records/...".
    """
    path = PurePosixPath(name)
    return str(path.parent.parent / CURVES / path.name)


def of_manifest(folder: Path, manifest: Manifest) -> Iterator[tuple[RecordFile, bytes, Values]]:
    """The record files that a manifest counts: what each holds, its content, and the values to take
    from it, each value once. Raises BenchError, naming the file, for one that is missing or
    damaged.
    """
    taken: dict[str, dict[str, dict[str, str]]] = {}
    for job in manifest.jobs:
        for name in job.records:
            file, content = open_file(folder, name, manifest.sha256.get(name))
            before = taken.get(file.shard, {})
            if fresh := without(file.holds(job.values), before):
                taken[file.shard] = together([before, fresh])
                yield file, content, fresh
