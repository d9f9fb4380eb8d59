"""The record files of a run folder: which values of which shards they hold; and what its plain data must be.

A file `records/<shard key>-<8 digits>.parquet` holds what one command computed of one shard; its curves, if it has any,
are in the file of the same name in `curves/`. The metadata (see `RecordNotes`) is a dict:

- "format": 2; "shard": the shard's key;
- "values": {method: {metric: key}}; "names": {metric: [names of its values]};
- "curves": {metric: [names of its curves]}; "axes": {curve: how to draw it};
- "beside": [users' own plug-ins that were called, if any];
- "turned": {id of an image with an EXIF orientation: whether it is applied}.

A value is there if the key of its (method, metric) is the wanted one.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import textwrap
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path, PurePosixPath
from types import GenericAlias
from typing import Annotated, Any, Literal
from uuid import uuid4

import pandas as pd
from pydantic import PlainValidator, TypeAdapter, ValidationError, create_model
from pydantic_core import PydanticCustomError

from axiom_bench.records import files, sealed, store
from axiom_bench.records.sealed import Damaged

MAX_PLACE = 100  # characters of an entry's place in an error
EXPECTED = {  # by pydantic's name of an error
    **dict.fromkeys(("dict_type", "model_type"), "a mapping"),
    **{"list_type": "a list", "string_type": "text", "scalar_type": "text or a number"},
    **{"float_type": "a number", "int_type": "a whole number", "bool_type": "true or false"},
}


def problem(value: object, of: Any, place: str = "") -> str | None:
    """What is wrong with the first entry of another type than `of`; None where there is none. place: of the value in
    what it belongs to. A run folder may come from a stranger: its readers rely on these types alone."""
    try:
        _adapter(of).validate_python(value, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        where = ".".join(map(str, (*([place] if place else []), *first["loc"])))
        expected = EXPECTED.get(first["type"], "something else")
        return f"its {where[:MAX_PLACE]!r} must be {expected}, not {short(first['input'])}"
    return None


def short(value: object) -> str:
    """A value as JSON, cut to a few words."""
    return textwrap.shorten(json.dumps(value, default=str), 60, placeholder="...")


def _entries(**types: Any) -> Any:
    """A mapping that may have entries of these types, or null in their place, and any others."""
    fields: dict[str, Any] = {name: (of | None, None) for name, of in types.items()}
    return create_model("Entries", **fields)


def _each(of: Any) -> Any:
    return GenericAlias(dict, (str, of))


def _list(of: Any) -> Any:
    return GenericAlias(list, (of,))


def _scalar(value: object) -> object:
    if isinstance(value, str | int | float):
        return value
    raise PydanticCustomError("scalar_type", "text or a number")


@cache
def _adapter(of: Any) -> TypeAdapter[Any]:
    return TypeAdapter(of)


Scalar = Annotated[Any, PlainValidator(_scalar)]
NAMES = list[str] | None
_FACTS = dict[str, Any]
_TITLES = {
    **dict.fromkeys(("title", "note", "description", "definition", "deviation"), Scalar),
    **{"reference": str, "cited": _entries(text=str, url=str)},
}
_RUN = {
    **{"experiment": Scalar, "run": Scalar, "created": str, "overrides": list[str], "versions": _FACTS},
    "git_commit": str,
}
_METHOD = _entries(
    **_TITLES, params=_FACTS, library=str, wins_by_construction=list[str], computed_from=list[str], unstable=str
)
_WORDS = dict.fromkeys(("unit", "kind", "better", "tolerance", "of", "metric", "unstable"), str)
_METRIC = _entries(**_TITLES, **_WORDS, needs=list[Any], computed_from=list[str])
_IMAGES = _entries(chosen=float, kept=float, others=str, mosaics=_FACTS)
_MODEL = _entries(
    **dict.fromkeys(("layer", "output", "weights_sha256"), str),
    **dict.fromkeys(("random_weights", "tells_contributions"), bool),
    **{"layers": list[str], "depths": dict[str, float], "weights": Scalar, "note": Scalar},
    classes=list[Scalar],
    images=_each(_IMAGES),
)
_VALUES = dict[str, dict[str, str]]
_CONFIG = _entries(model=_FACTS)
_JOB = _entries(job=str, config=_CONFIG, images=float, left_out=list[str], records=list[str], values=_VALUES)
Manifest = _entries(  # but for the lists of files, see `records.artefacts`
    **_RUN,
    config=_entries(report=_FACTS),
    methods=_each(_METHOD),
    metrics=_each(_METRIC),
    models=_each(_MODEL),
    data=_each(_entries(ids=list[str], fingerprint=str, notes=list[str])),
    axes=_each(_FACTS),
    jobs=_list(_JOB),
    seconds=dict[str, dict[str, float]],
    work=dict[str, dict[str, float]],
    report_seconds=float,
    failures=_list(_entries(job=str, message=str)),
    added=_each(_entries(git_commit=str)),
    runs=_list(_entries(**_RUN, folder=str, models=list[str], data=list[str])),
    state=str,
)
RecordNotes = create_model(  # the metadata of a record file, see `records.holdings`
    "RecordNotes",
    format=(Literal[2], ...),
    shard=(str, ...),
    values=(_VALUES, ...),
    names=(dict[str, list[str]], ...),
    curves=(dict[str, list[str]], ...),
    axes=(_FACTS, ...),
    beside=(NAMES, None),
    turned=(dict[str, bool] | None, None),
)

FORMAT = 2
KEY_LENGTH = 32  # hexadecimal digits: 128 bits
RECORDS, CURVES = "records", "curves"  # folders
Values = Mapping[str, Mapping[str, str]]  # {method: {metric: key}}
_NAME = re.compile(r"([0-9a-f]{32})-[0-9a-f]{8}\.parquet")


def key(**facts: object) -> str:
    """A hash over named facts, plain data (other objects by their `str`), in any order of the names."""
    text = json.dumps(facts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:KEY_LENGTH]


@dataclass(frozen=True)
class RecordFile:
    """A complete record file. name: relative to the run folder. See the module for the rest."""

    name: str
    shard: str
    values: Values
    names: Mapping[str, list[str]]
    curves: Mapping[str, list[str]]
    axes: Mapping[str, Any] = field(default_factory=dict)
    beside: tuple[str, ...] = ()
    turned: Mapping[str, bool] = field(default_factory=dict)

    @property
    def curve_file(self) -> str | None:
        return curve_file(self.name) if self.curves else None

    def holds(self, wanted: Values) -> dict[str, dict[str, str]]:
        """The wanted values that are in this file."""
        return _chosen(wanted, lambda method, metric, key: self.values.get(method, {}).get(metric) == key)


@dataclass(frozen=True)
class Holdings:
    """files: by shard key. damaged: names of files, of records and of their curves, whose bytes changed."""

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

    def _looked_up(self, shard: str, wanted: Values) -> tuple[list[RecordFile], dict[str, dict[str, str]]]:
        needed, rest = [], {method: dict(metrics) for method, metrics in wanted.items()}
        for file in self.files.get(shard, ()):
            if held := file.holds(rest):
                needed.append(file)
                rest = without(rest, held)
        return needed, rest


def read(folder: Path, shards: Collection[str] | None = None) -> Holdings:
    """The record files of these shards in the run folder (None: of all shards), every byte of them checked."""
    files: dict[str, list[RecordFile]] = {}
    damaged = []
    for path in sorted((folder / RECORDS).glob("*.parquet")):
        match, name = _NAME.fullmatch(path.name), f"{RECORDS}/{path.name}"
        if match is not None and (shards is None or match[1] in shards):
            file, curves = None, curve_file(name)
            with suppress(Damaged):
                file, _ = open_file(folder, name)
            has_curves = bool(file.curves) if file else os.path.lexists(folder / curves)
            broken = [*([] if file else [name]), *([curves] if has_curves and not _are_curves(folder / curves) else [])]
            damaged += broken
            if file and not broken:
                files.setdefault(file.shard, []).append(file)
    return Holdings(files, tuple(damaged))


def _are_curves(path: Path) -> bool:
    try:
        return store.is_of(sealed.content_of(path), store.CURVES.names)
    except Damaged:
        return False


def open_file(folder: Path, name: str) -> tuple[RecordFile, bytes]:
    """A record file by its metadata, and its content. Raises `Damaged` where the bytes aren't as they were written, or
    the name is that of another shard."""
    content, match = sealed.content_of(folder / name), _NAME.fullmatch(PurePosixPath(name).name)
    notes = store.metadata_of(content) or {}
    is_of_shard = problem(notes, RecordNotes) is None and match is not None and match[1] == notes["shard"]
    if not is_of_shard or not store.is_of(content, store.SCHEMA.names):
        raise Damaged(f"The file {folder / name} holds no records; run the same command again.")
    return _record_file(name, notes), content


def write(
    folder: Path, shard: str, values: Values, rows: pd.DataFrame, curves: pd.DataFrame, notes: Mapping[str, Any]
) -> RecordFile:
    """Writes what one command computed of one shard. notes: names, curves, axes ..., see the module. Raises
    BenchError. The file of curves is written first: where the record file exists, both are complete."""
    name = f"{RECORDS}/{shard}-{uuid4().hex[:8]}.parquet"
    metadata = {"format": FORMAT, "shard": shard, "values": values, **notes}
    file = _record_file(name, metadata)
    if file.curve_file is not None:
        store.write(folder / file.curve_file, curves, store.CURVES)
    store.write(folder / name, rows, metadata=metadata)
    return file


def _record_file(name: str, metadata: Mapping[str, Any]) -> RecordFile:
    about = {key: metadata[key] for key in ("shard", "values", "names", "curves", "axes")}
    beside = tuple(metadata.get("beside") or ())
    return RecordFile(name, **about, beside=beside, turned=metadata.get("turned") or {})


def remove(folder: Path, names: Iterable[str]) -> None:
    """Deletes record files, and with each its file of curves. names: of either."""
    for name in {PurePosixPath(name).name for name in names}:
        files.discard(folder / RECORDS / name)
        files.discard(folder / CURVES / name)


def without(values: Values, held: Values) -> dict[str, dict[str, str]]:
    """The values but for those that are held; methods of which none is left are dropped."""
    return _chosen(values, lambda method, metric, _: metric not in held.get(method, {}))


def _chosen(values: Values, is_chosen: Callable[[str, str, str], bool]) -> dict[str, dict[str, str]]:
    """The values for which `is_chosen(method, metric, key)`; methods of which none is left are dropped."""
    chosen = {
        method: {metric: key for metric, key in metrics.items() if is_chosen(method, metric, key)}
        for method, metrics in values.items()
    }
    return {method: metrics for method, metrics in chosen.items() if metrics}


def curve_file(name: str) -> str:
    """The file of curves that belongs to a file of records, whose run folder may be another: "../run/records/..."."""
    path = PurePosixPath(name)
    return str(path.parent.parent / CURVES / path.name)


def of_manifest(folder: Path, manifest: Mapping[str, Any]) -> Iterator[tuple[RecordFile, bytes, Values]]:
    """The record files that a manifest counts: what each holds, its content, and the values to take from it, each value
    once. Raises BenchError, naming the file, for one that is missing or damaged."""
    taken: dict[str, dict[str, dict[str, str]]] = {}
    for job in manifest.get("jobs") or ():
        for name in job.get("records") or ():
            file, content = open_file(folder, name)
            before = taken.setdefault(file.shard, {})
            if fresh := without(file.holds(job["values"]), before):
                for method, metrics in fresh.items():
                    before[method] = {**before.get(method, {}), **metrics}
                yield file, content, fresh
