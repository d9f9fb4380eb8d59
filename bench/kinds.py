"""What a setting or a parameter may be: the annotation of what takes it says so, pydantic checks
it, and a wrong value is one sentence.

Side = Annotated[int, whole(1, "pixels")] check(a_function, {"side": 0}, "model.")       #
BenchError: model.side must be pixels, 1 or more, not 0.
"""

from __future__ import annotations

import inspect
import os
import reprlib
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from numbers import Integral, Real
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import (
    AllowInfNan,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    InstanceOf,
    Strict,
    TypeAdapter,
    ValidationError,
    WrapValidator,
)
from pydantic_core import ErrorDetails, PydanticCustomError

from axiom_bench.errors import BenchError

MAX_NAME = (
    200  # characters of a name that stands in tables and titles, or as a part of a file's name
)
MAX_PATH = 2000  # characters; Linux allows 4096 bytes
MAX_SHOWN = 300  # characters of a value in an error
MAX_FILE_NAME = 255  # bytes between two slashes
WORDS = {  # pydantic's type of error: what is expected
    "bool_type": "true or false",
    "int_type": "a whole number",
    **dict.fromkeys(("float_type", "finite_number"), "a number"),
    "string_type": "a text",
    "none_required": "null",
    "callable_type": "a function",
    **dict.fromkeys(("list_type", "tuple_type", "sequence_str", "is_instance_of"), "a list"),
    "missing": "a longer one",
    "too_long": "a shorter one",
    **dict.fromkeys(("mapping_type", "dict_type"), "a mapping"),
}


class Group(BaseModel):
    """A group of settings, read by attribute. No value is converted, and none may change."""

    model_config = ConfigDict(frozen=True, strict=True)


def check(function: Callable[..., Any], values: Mapping[str, Any], prefix: str) -> None:
    """Raises BenchError for a value that the function's (or dataclass's) annotation doesn't allow.

    prefix: what stands before a value's name in the error, such as "metric.box_iou.params.". A
    parameter without an annotation, or with one that pydantic can't check, isn't checked.
    """
    parameters = signature(function)
    optional = {
        key for key in parameters if parameters[key].default is None
    }  # as in `size: int = None`
    set_values = {
        key: value for key, value in values.items() if value is not None or key not in optional
    }
    annotations = {key: parameter.annotation for key, parameter in parameters.items()}
    check_values(set_values, annotations, prefix)


def check_values(
    values: Mapping[str, Any], annotations: Mapping[str, Any], prefix: str = ""
) -> None:
    """Raises BenchError for the first value that its annotation doesn't allow, called prefix +
    key.
    """
    for key, annotation in annotations.items():
        if key in values and (words := expected(annotation, values[key])):
            raise BenchError(f"{prefix}{key} must be {words}, not {shown(values[key])}.")


def check_group(setting: str, value: object) -> Mapping[str, Any]:
    """The value, if it is a group of settings. Raises BenchError."""
    if not isinstance(value, Mapping):
        raise BenchError(
            f"{setting} is a group of settings, of which you set one, as {setting}.NAME=..., not "
            f"{shown(value)}."
        )
    for key in value:
        if not isinstance(key, str):
            raise BenchError(f"{setting} holds {shown(key)}, which isn't the name of a setting.")
    return value


def expected(annotation: Any, value: object) -> str | None:
    """What an annotation allows, in words, where it doesn't allow the value."""
    try:
        adapter = _adapter(annotation, repr(annotation))
    except TypeError:  # Annotated with what can't be hashed
        adapter = TypeAdapter(strict(annotation))
    try:
        adapter.validate_python(value)
    except ValidationError as error:
        words = dict.fromkeys(map(_words, error.errors(include_url=False)))
        may_be_null = get_origin(annotation) in (Union, UnionType) and NoneType in get_args(
            annotation
        )
        return " or ".join([*words, "null"] if may_be_null else words)
    return None


def stays_text(annotation: Any, text: str, value: object) -> bool:
    """Return whether a setting is the text as it is typed, although YAML reads this value.

    An allowed value that is written like the text counts, as 3, and so does null. Otherwise the
    first kind of the annotation that allows one of the two decides: of `Name | int` a text, of `int
    | Name` a number.

    >>> stays_text(Name, "2024_11_28", 20241128), stays_text(int, "1_000", 1000)
    (True, False)
    """
    if expected(annotation, value) is None and (value is None or str(value) == text):
        return False
    for kind in _kinds_of(annotation):
        if expected(kind, text) is None:
            return True
        if expected(kind, value) is None:
            return False
    return False


def element_of(annotation: Any) -> Any:
    """Return the annotation of the entries of a list, or None if the annotation allows no list."""
    for kind in _kinds_of(annotation):
        origin = get_origin(kind)
        if origin is Annotated:
            kind = get_args(kind)[0]
            origin = get_origin(kind)
        if origin in (list, tuple, Sequence):
            return get_args(kind)[0]
    return None


def _kinds_of(annotation: Any) -> Sequence[Any]:
    return get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)


@lru_cache(maxsize=1000)
def _adapter(annotation: Any, text: str) -> TypeAdapter[Any]:
    """What checks an annotation's values. text: as it is written, since int | str equals str | int
    in another order.
    """
    return TypeAdapter(strict(annotation))


def _words(error: ErrorDetails) -> str:
    """What was expected; of a list's entry "a list, each a number"."""
    if "[key]" in error["loc"]:
        return "a mapping"
    if error["type"] == "literal_error":
        return str(error["ctx"]["expected"]).replace(", ", " or ")
    words = WORDS.get(error["type"]) or error["msg"].partition("should be ")[2] or error["msg"]
    depth = sum(isinstance(place, int) for place in error["loc"])
    return "a list, each " * depth + words


def strict(annotation: Any) -> Any:
    """The annotation as pydantic is to check it: no value is converted, as "3" to 3, and what
    pydantic has no rule for, as arrays, may be anything.
    """
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return Annotated[(strict(inner[0]), *annotation.__metadata__)]
    if origin in (Union, UnionType):
        members = tuple(map(strict, inner))
        return Any if Any in members else Union[members]  # noqa: UP007 - of as many as there are
    if origin is Literal or annotation in (None, NoneType, ...):
        return annotation
    if annotation in SCALARS:
        return SCALARS[annotation]
    if (origin or annotation) in (list, tuple, Sequence, Mapping, dict):
        container = Mapping if (origin or annotation) in (Mapping, dict) else origin or annotation
        return container[tuple(map(strict, inner))] if inner else container
    return Callable if (origin or annotation) is Callable else Any


def signature(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """A function's parameters with evaluated annotations; none where these can't be evaluated."""
    try:
        return inspect.signature(function, eval_str=True).parameters
    except Exception:  # noqa: BLE001 - a user's annotations may name what isn't imported, and evaluate to anything
        return {}


def worded(expected: str, fits: Callable[[Any], bool] = lambda _: True) -> WrapValidator:
    """Of the values of an annotation those that fit, named by these words in an error."""

    def validated(value: object, of_annotation: Callable[[Any], Any]) -> Any:
        try:
            checked = of_annotation(value)
        except ValidationError:
            checked = None
        else:
            if fits(checked):
                return checked
        raise PydanticCustomError("worded", "{expected}", {"expected": expected})

    return WrapValidator(validated)


def whole(least: int, of: str = "a whole number", most: int | None = None) -> WrapValidator:
    """Whole numbers from `least` on, up to `most`."""
    bounds = f"{least} or more" if most is None else f"{least} to {most}"
    return worded(
        f"{of}, {bounds}", lambda value: least <= value and (most is None or value <= most)
    )


def shown(value: object) -> str:
    """A value in an error: its start, where it is long."""
    text = _SHOWN.repr(value)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."


def is_name(value: object) -> bool:
    """Whether a value can stand in tables, titles and files: a text of at most MAX_NAME characters
    on one line, which isn't blank at either end.
    """
    if not isinstance(value, str) or not _is_text(value):
        return False
    return 0 < len(value) <= MAX_NAME and value.isprintable() and value == value.strip()


def is_path(value: object) -> bool:
    """Whether a value can be the path of a file or folder, which need not be there; ~ may stand for
    a home.
    """
    if not isinstance(value, str) or not value.strip() or len(value) > MAX_PATH or min(value) < " ":
        return False
    try:
        Path(value).expanduser()
        return all(len(part) <= MAX_FILE_NAME for part in os.fsencode(value).split(b"/"))
    except (UnicodeError, RuntimeError):  # half a character; the home of nobody
        return False


def _is_text(value: object) -> bool:
    """A text that can be written to a file: without NUL, and without halves of characters."""
    return (
        isinstance(value, str)
        and "\0" not in value
        and not any("\ud800" <= mark <= "\udfff" for mark in value)
    )


def _of_python(value: object) -> object:
    """A number of NumPy's as one of Python's; one that is beyond float64's range as infinity."""
    if isinstance(value, int | float) or not isinstance(value, Real):
        return value
    return int(value) if isinstance(value, Integral) else float(value)


_SHOWN = reprlib.Repr()
_SHOWN.maxstring = _SHOWN.maxother = _SHOWN.maxlong = 100
_SHOWN.maxlist = _SHOWN.maxtuple = _SHOWN.maxdict = 12
SCALARS: Mapping[Any, Any] = {
    bool: Annotated[bool, Strict()],
    int: Annotated[int, Strict(), BeforeValidator(_of_python)],
    float: Annotated[float, Strict(), AllowInfNan(False), BeforeValidator(_of_python)],
    str: Annotated[Any, worded("a text", _is_text)],
    Path: Annotated[InstanceOf[Path], worded("a path")],
}
Name = Annotated[
    str,
    worded(
        f"a name: a text of 1 to {MAX_NAME} characters on one line, a number in quotes: '5'",
        is_name,
    ),
]
File = Annotated[Any, worded("the path of a file or folder", is_path)]
"""A path as a text; it may hold bytes that are no UTF-8, which Python has as halves of characters.
"""
