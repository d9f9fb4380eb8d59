"""What plain data in a run folder must be, which may come from a stranger: its readers rely on these types alone.

An entry may be absent or null; entries of other names may be anything.
"""

from __future__ import annotations

import json
import textwrap
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import PlainValidator, TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict  # pydantic needs it before Python 3.12

MAX_PLACE = 100  # characters of an entry's place in an error
EXPECTED = {
    **{"dict_type": "a mapping", "list_type": "a list", "string_type": "text", "scalar_type": "text or a number"},
    **{"float_type": "a number", "int_type": "a whole number", "bool_type": "true or false"},
}


def _scalar(value: object) -> object:
    if value is None or isinstance(value, str | int | float):
        return value
    raise PydanticCustomError("scalar_type", "text or a number")


Scalar = Annotated[Any, PlainValidator(_scalar)]
Text = str | None
Number = float | None
Names = list[str] | None
Mapping = dict[str, Any] | None


class Cited(TypedDict, total=False):
    text: Text
    url: Text


class _Plugin(TypedDict, total=False):
    title: Scalar
    note: Scalar
    description: Scalar
    definition: Scalar
    deviation: Scalar
    reference: Text
    cited: Cited | None


class Method(_Plugin, total=False):
    params: Mapping
    library: Text
    wins_by_construction: Names


class Metric(_Plugin, total=False):
    unit: Text
    better: Text
    tolerance: Text
    of: Text
    metric: Text
    needs: list[Any] | None


class Images(TypedDict, total=False):
    chosen: Number
    kept: Number
    others: Text
    mosaics: Mapping


class Model(TypedDict, total=False):
    layer: Text
    output: Text
    weights_sha256: Text
    layers: Names
    depths: dict[str, float] | None
    weights: Scalar
    random_weights: bool | None
    images: dict[str, Images] | None


class Data(TypedDict, total=False):
    ids: Names
    fingerprint: Text
    classes: list[Scalar] | None


class Job(TypedDict, total=False):
    job: Text
    config: Mapping
    images: Number
    left_out: Names
    records: Names
    values: dict[str, dict[str, str]] | None


class Failure(TypedDict, total=False):
    job: Text
    message: Text


class _Run(TypedDict, total=False):
    experiment: Scalar
    run: Scalar
    created: Text
    overrides: Names
    versions: Mapping
    git_commit: Text


class CombinedRun(_Run, total=False):
    folder: Text
    models: Names
    data: Names


class Config(TypedDict, total=False):
    report: Mapping


class Manifest(_Run, total=False):
    """But for the lists of files, see `records.artefacts`."""

    config: Config | None
    methods: dict[str, Method] | None
    metrics: dict[str, Metric] | None
    models: dict[str, Model] | None
    data: dict[str, Data] | None
    axes: dict[str, dict[str, Any]] | None
    jobs: list[Job] | None
    seconds: dict[str, dict[str, float]] | None
    work: dict[str, dict[str, float]] | None
    report_seconds: Number
    failures: list[Failure] | None
    runs: list[CombinedRun] | None
    state: Text


class RecordNotes(TypedDict):
    """The metadata of a record file, see `records.holdings`."""

    format: Literal[2]
    shard: str
    values: dict[str, dict[str, str]]
    names: dict[str, list[str]]
    curves: dict[str, list[str]]
    axes: dict[str, Any]


def problem(value: object, of: Any, place: str = "") -> str | None:
    """What is wrong with the first entry of another type; None where there is none. of: a type of this module; place:
    of the value in what it belongs to."""
    try:
        _adapter(of).validate_python(value, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        where = ".".join(map(str, (*([place] if place else []), *first["loc"])))
        return (
            f"its {where[:MAX_PLACE]!r} must be {EXPECTED.get(first['type'], 'another')}, not {short(first['input'])}"
        )
    return None


def short(value: object) -> str:
    """A value as JSON, cut to a few words."""
    return textwrap.shorten(json.dumps(value, default=str), 60, placeholder="...")


@cache
def _adapter(of: Any) -> TypeAdapter[Any]:
    return TypeAdapter(of)
