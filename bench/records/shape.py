"""What plain data in a run folder must be, which may come from a stranger: its readers rely on these types alone."""

from __future__ import annotations

import json
import textwrap
from functools import cache
from types import GenericAlias
from typing import Annotated, Any, Literal

from pydantic import PlainValidator, TypeAdapter, ValidationError, create_model
from pydantic_core import PydanticCustomError

MAX_PLACE = 100  # characters of an entry's place in an error
EXPECTED = {  # by pydantic's name of an error
    **dict.fromkeys(("dict_type", "model_type"), "a mapping"),
    **{"list_type": "a list", "string_type": "text", "scalar_type": "text or a number"},
    **{"float_type": "a number", "int_type": "a whole number", "bool_type": "true or false"},
}


def problem(value: object, of: Any, place: str = "") -> str | None:
    """What is wrong with the first entry of another type; None where there is none. of: a type; place: of the value in
    what it belongs to."""
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
    """A mapping from any names to this type."""
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
Names = list[str] | None
Mapping = dict[str, Any]
_TITLES = {
    **dict.fromkeys(("title", "note", "description", "definition", "deviation"), Scalar),
    **{"reference": str, "cited": _entries(text=str, url=str)},
}
_RUN = {
    **{"experiment": Scalar, "run": Scalar, "created": str, "overrides": list[str], "versions": Mapping},
    "git_commit": str,
}
_METHOD = _entries(**_TITLES, params=Mapping, library=str, wins_by_construction=list[str])
_METRIC = _entries(**_TITLES, **dict.fromkeys(("unit", "better", "tolerance", "of", "metric"), str), needs=list[Any])
_IMAGES = _entries(chosen=float, kept=float, others=str, mosaics=Mapping)
_MODEL = _entries(
    **dict.fromkeys(("layer", "output", "weights_sha256"), str),
    **{"layers": list[str], "depths": dict[str, float], "weights": Scalar, "random_weights": bool},
    images=_each(_IMAGES),
)
_VALUES = dict[str, dict[str, str]]
_JOB = _entries(job=str, config=Mapping, images=float, left_out=list[str], records=list[str], values=_VALUES)
Manifest = _entries(  # but for the lists of files, see `records.artefacts`
    **_RUN,
    config=_entries(report=Mapping),
    methods=_each(_METHOD),
    metrics=_each(_METRIC),
    models=_each(_MODEL),
    data=_each(_entries(ids=list[str], fingerprint=str, classes=list[Scalar])),
    axes=_each(Mapping),
    jobs=_list(_JOB),
    seconds=dict[str, dict[str, float]],
    work=dict[str, dict[str, float]],
    report_seconds=float,
    failures=_list(_entries(job=str, message=str)),
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
    axes=(Mapping, ...),
)
