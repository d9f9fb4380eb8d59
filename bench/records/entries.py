"""What the plain data of a manifest must be. A run folder may come from a stranger: its readers rely on these types
alone. Other entries are free."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, PlainValidator, ValidationError, ValidationInfo
from pydantic_core import PydanticCustomError

MAX_PLACE = 100  # characters of an entry's place in an error
MAX_PATH = 1000  # characters of a file's name in the folder
EXPECTED = {  # by pydantic's name of an error
    **dict.fromkeys(("dict_type", "model_type"), "a mapping"),
    **{"list_type": "a list", "string_type": "text", "scalar_type": "text or a number"},
    **{"float_type": "a number", "int_type": "a whole number", "bool_type": "true or false"},
}


def problem(manifest: Mapping[str, Any]) -> str | None:
    """What is wrong with the first entry that isn't of its type; None where there is none. Files of combined runs may
    be of other folders."""
    try:
        Manifest.model_validate(manifest, strict=True, context=bool(manifest.get("runs")))
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        where = ".".join(map(str, first["loc"]))[:MAX_PLACE]
        text = textwrap.shorten(json.dumps(first["input"], default=str), 60, placeholder="...")
        if first["type"] == "missing":
            return f"it has no {where!r}"
        if first["type"] == "file_name":
            return f"its {first['loc'][0]!r} names {text}, which is no file of a run folder"
        return f"its {where!r} must be {EXPECTED.get(first['type'], 'something else')}, not {text}"
    return None


def _scalar(value: object) -> object:
    if isinstance(value, str | int | float):
        return value
    raise PydanticCustomError("scalar_type", "text or a number")


def _inside(name: str, info: ValidationInfo) -> str:
    path = PurePosixPath(name[: MAX_PATH + 1])
    is_inside = path.parts and not path.is_absolute() and ".." not in path.parts and "\0" not in name
    if info.context or (is_inside and len(name) <= MAX_PATH):
        return name
    raise PydanticCustomError("file_name", "a file of the run folder")


Facts = dict[str, Any] | None
Files = list[Annotated[str, AfterValidator(_inside)]] | None
Numbers = dict[str, dict[str, float]] | None
Scalar = Annotated[Any, PlainValidator(_scalar)]
ScalarOrNone = Scalar | None
Text = str | None
Texts = list[str] | None
Values = dict[str, dict[str, str]]


class Entries(BaseModel):
    """A mapping in which each of these entries may be missing, or null."""


class _Cited(Entries):
    text: Text = None
    url: Text = None


class _Plugin(Entries):
    title: ScalarOrNone = None
    note: ScalarOrNone = None
    description: ScalarOrNone = None
    definition: ScalarOrNone = None
    deviation: ScalarOrNone = None
    reference: Text = None
    cited: _Cited | None = None
    computed_from: Texts = None
    unstable: Text = None


class _Method(_Plugin):
    params: Facts = None
    library: Text = None
    wins_by_construction: Texts = None


class _Metric(_Plugin):
    unit: Text = None
    kind: Text = None
    better: Text = None
    tolerance: Text = None
    of: Text = None
    metric: Text = None
    needs: list[Any] | None = None


class _Images(Entries):
    chosen: float | None = None
    kept: float | None = None
    others: Text = None
    mosaics: Facts = None


class _Model(Entries):
    layer: Text = None
    layers: Texts = None
    depths: dict[str, float] | None = None
    output: Text = None
    weights: ScalarOrNone = None
    weights_sha256: Text = None
    random_weights: bool | None = None
    tells_contributions: bool | None = None
    published_accuracy: float = 0.0
    note: ScalarOrNone = None
    classes: list[Scalar] | None = None
    images: dict[str, _Images] | None = None


class _Data(Entries):
    ids: Texts = None
    fingerprint: Text = None
    notes: Texts = None


class _Config(Entries):
    protocol: Facts = None
    model: Facts = None
    report: Facts = None


class _Job(Entries):
    job: str
    config: _Config | None = None
    images: float | None = None
    left_out: Texts = None
    records: Files = None
    values: Values | None = None


class _Failure(Entries):
    job: Text = None
    message: Text = None


class _Added(Entries):
    git_commit: Text = None


class _Run(Entries):
    experiment: ScalarOrNone = None
    run: ScalarOrNone = None
    created: Text = None
    overrides: Texts = None
    versions: Facts = None
    git_commit: Text = None


class _CombinedRun(_Run):
    folder: Text = None
    models: Texts = None
    data: Texts = None


class Manifest(_Run):
    """manifest.json: see `records.artefacts`."""

    config: _Config | None = None
    methods: dict[str, _Method] | None = None
    metrics: dict[str, _Metric] | None = None
    models: dict[str, _Model] | None = None
    data: dict[str, _Data] | None = None
    axes: dict[str, dict[str, Any]] | None = None
    jobs: list[_Job] | None = None
    seconds: Numbers = None
    work: Numbers = None
    failures: list[_Failure] | None = None
    added: dict[str, _Added] | None = None
    runs: list[_CombinedRun] | None = None
    state: Text = None
    records: Files = None
    curves: Files = None
    whole_set: Files = None
    runtime: Files = None
    pictures: Files = None
    gallery: Files = None
    sha256: dict[str, str] | None = None
