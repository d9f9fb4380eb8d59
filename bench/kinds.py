"""Check the values of settings and parameters against annotations, with pydantic. A wrong value is
reported in one sentence.

The annotations of a function are thus the only definition of what a user may set. pydantic's own
errors have several lines and name no setting.

    Side = Annotated[int, whole_number(1, "pixels")]

    def a_function(side: Side): ...

    check(a_function, {"side": 0}, "model.")
    # BenchError: model.side must be pixels, 1 or more, not 0.
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

TypeForm = Any
"""An annotation as a value, such as `int | None`. Python has no type for all of them."""
MAX_NAME = 200  # characters of a name in tables and titles, or in the name of a file
MAX_PATH = 2000  # characters; Linux allows 4096 bytes
MAX_SHOWN = 300  # characters of a value in an error
MAX_FILE_NAME = 255  # bytes between two slashes
WORDS = {  # {pydantic's type of error: words for the expected value}
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


def check(function: Callable[..., object], values: Mapping[str, object], prefix: str) -> None:
    """Check values against the annotations of a function or dataclass.

    A parameter without an annotation, or with one that pydantic can't check, isn't checked.

    Args:
        function: The function or dataclass that takes the values.
        values: The values by parameter.
        prefix: The text in front of a value's name in the error, such as "metric.box_iou.params.".

    Raises:
        BenchError: If an annotation doesn't allow a value.
    """
    parameters = signature(function)
    # `size: int = None` allows None, which its annotation doesn't say
    checked = {
        key: value
        for key, value in values.items()
        if value is not None or key not in parameters or parameters[key].default is not None
    }
    annotations = {key: parameter.annotation for key, parameter in parameters.items()}
    check_values(checked, annotations, prefix)


def check_values(
    values: Mapping[str, object], annotations: Mapping[str, TypeForm], prefix: str = ""
) -> None:
    """Check values against annotations.

    Args:
        values: The values by name.
        annotations: The annotations by name. A value without an annotation isn't checked.
        prefix: The text in front of a value's name in the error.

    Raises:
        BenchError: For the first value that its annotation doesn't allow.
    """
    for key, annotation in annotations.items():
        if key in values and (words := describe_mismatch(annotation, values[key])):
            raise BenchError(
                f"{prefix}{key} must be {words}, not {shorten_for_error(values[key])}."
            )


def check_group(setting: str, value: object) -> Mapping[str, object]:
    """Return the value, or raise BenchError if it isn't a group of settings."""
    if not isinstance(value, Mapping):
        raise BenchError(
            f"{setting} is a group of settings: one is set by {setting}.NAME=..., not by "
            f"{shorten_for_error(value)}."
        )
    for key in value:
        if not isinstance(key, str):
            raise BenchError(
                f"{setting} holds {shorten_for_error(key)}, which isn't the name of a setting."
            )
    return value


def describe_mismatch(annotation: TypeForm, value: object) -> str | None:
    """Return what an annotation allows, in words, or None if it allows the value."""
    try:
        adapter = _adapter(annotation, repr(annotation))
    except TypeError:  # the annotation contains something that can't be hashed
        adapter = TypeAdapter(strict(annotation))
    try:
        adapter.validate_python(value)
    except ValidationError as error:
        words = list(dict.fromkeys(map(_words, error.errors(include_url=False))))
        if _is_union(annotation) and NoneType in get_args(annotation):
            words.append("null")
        return " or ".join(words)
    return None


def stays_text(annotation: TypeForm, text: str, value: object) -> bool:
    """Return whether a setting is the text as it is typed, although YAML reads this value.

    An allowed value that is written like the text, such as 3, isn't a text, and neither is null.
    Otherwise the first kind of the annotation that allows one of the two decides: `Name | int`
    means a text, `int | Name` a number.

    >>> stays_text(Name, "2024_11_28", 20241128)
    True
    >>> stays_text(int, "1_000", 1000)
    False
    """
    if describe_mismatch(annotation, value) is None and (value is None or str(value) == text):
        return False
    for kind in _kinds_of(annotation):
        if describe_mismatch(kind, text) is None:
            return True
        if describe_mismatch(kind, value) is None:
            return False
    return False


def element_annotation(annotation: TypeForm) -> TypeForm:
    """Return the type of a list's entries, or None if the annotation allows no list."""
    for kind in _kinds_of(annotation):
        origin = get_origin(kind)
        if origin is Annotated:
            kind = get_args(kind)[0]
            origin = get_origin(kind)
        if origin in (list, tuple, Sequence):
            return get_args(kind)[0]
    return None


def _kinds_of(annotation: TypeForm) -> Sequence[TypeForm]:
    """Return the members of a union, or the annotation if it is no union."""
    return get_args(annotation) if _is_union(annotation) else (annotation,)


def _is_union(annotation: TypeForm) -> bool:
    return get_origin(annotation) in (Union, UnionType)


@lru_cache(maxsize=1000)
def _adapter(annotation: TypeForm, text: str) -> TypeAdapter[object]:
    """Return pydantic's adapter for an annotation. Its text is a part of the cache's key, since
    int | str and str | int are equal.
    """
    return TypeAdapter(strict(annotation))


def _words(error: ErrorDetails) -> str:
    """Return the expected value in words: for the entry of a list "a list, each a number"."""
    if "[key]" in error["loc"]:
        return "a mapping"
    if error["type"] == "literal_error":
        return str(error["ctx"]["expected"]).replace(", ", " or ")
    words = WORDS.get(error["type"]) or error["msg"].partition("should be ")[2] or error["msg"]
    depth = sum(isinstance(key, int) for key in error["loc"])
    return "a list, each " * depth + words


def strict(annotation: TypeForm) -> TypeForm:
    """Return the annotation in the form that pydantic checks.

    No value is converted, such as "3" to 3. Types for which pydantic has no rule, such as arrays,
    allow any value.
    """
    origin = get_origin(annotation)
    arguments = get_args(annotation)
    if origin is Annotated:
        return Annotated[(strict(arguments[0]), *annotation.__metadata__)]
    if _is_union(annotation):
        members = tuple(map(strict, arguments))
        return Any if Any in members else Union[members]  # noqa: UP007 - any number of members
    if origin is Literal or annotation in (None, NoneType, ...):
        return annotation
    if annotation in SCALARS:
        return SCALARS[annotation]
    container: TypeForm = origin or annotation
    if container in (list, tuple, Sequence, Mapping, dict):
        if container is dict:
            container = Mapping
        return container[tuple(map(strict, arguments))] if arguments else container
    return Callable if container is Callable else Any


def signature(function: Callable[..., object]) -> Mapping[str, inspect.Parameter]:
    """Return a function's parameters with evaluated annotations, or {} if these can't be
    evaluated.
    """
    try:
        return inspect.signature(function, eval_str=True).parameters
    except Exception:  # noqa: BLE001 - a user's annotations may raise anything when evaluated
        return {}


def described_values(expected: str, fits: Callable[[Any], bool] = lambda _: True) -> WrapValidator:
    """Return a validator that errors describe in words.

    Args:
        expected: The words for an allowed value, such as "the path of a file".
        fits: Returns whether a value that the annotation allows is allowed.
    """

    def validate(value: object, validate_annotation: Callable[[object], object]) -> object:
        try:
            checked = validate_annotation(value)
        except ValidationError:
            checked = None
        else:
            if fits(checked):
                return checked
        raise PydanticCustomError("worded", "{expected}", {"expected": expected})

    return WrapValidator(validate)


def whole_number(least: int, of: str = "a whole number", most: int | None = None) -> WrapValidator:
    """Return a validator of whole numbers.

    Args:
        least: The smallest allowed number.
        of: The words for the number in an error, such as "a number of rows".
        most: The largest allowed number; None if there is no limit.
    """
    bounds = f"{least} or more" if most is None else f"{least} to {most}"

    def is_within(value: int) -> bool:
        return least <= value and (most is None or value <= most)

    return described_values(f"{of}, {bounds}", is_within)


def shorten_for_error(value: object) -> str:
    """Return a value as an error shows it: if it is long, only its beginning."""
    text = _SHOWN.repr(value)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."


def is_name(value: object) -> bool:
    """Return whether a value can be used in tables, titles and names of files.

    A name is a text of at most MAX_NAME characters on one line, without blanks at either end.
    """
    if not isinstance(value, str) or not _is_text(value):
        return False
    return 0 < len(value) <= MAX_NAME and value.isprintable() and value == value.strip()


def home_expanded(path: str | os.PathLike[str]) -> Path:
    """Return a path with the home folder in place of a leading ~ or ~user.

    Raise BenchError if there is no such user.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise BenchError(
            f"{path} begins with the home folder of nobody; write the whole path."
        ) from error


def is_path(value: object) -> bool:
    """Return whether a value can be the path of a file or folder, which need not exist.

    The path may begin with ~ for a home folder.
    """
    if not isinstance(value, str) or not value.strip() or len(value) > MAX_PATH:
        return False
    if min(value) < " ":  # a control character
        return False
    try:
        Path(value).expanduser()
        return all(len(part) <= MAX_FILE_NAME for part in os.fsencode(value).split(b"/"))
    except (UnicodeError, RuntimeError):  # half a character; the home of an unknown user
        return False


def _is_text(value: object) -> bool:
    """Return whether a value is a text without NUL and halves of characters, which a file can
    hold.
    """
    if not isinstance(value, str) or "\0" in value:
        return False
    return not any("\ud800" <= character <= "\udfff" for character in value)


def _to_python(value: object) -> object:
    """Return Python's number for a number of NumPy: infinity if it is beyond float64's range."""
    if isinstance(value, int | float) or not isinstance(value, Real):
        return value
    return int(value) if isinstance(value, Integral) else float(value)


_SHOWN = reprlib.Repr()
_SHOWN.maxstring = _SHOWN.maxother = _SHOWN.maxlong = 100
_SHOWN.maxlist = _SHOWN.maxtuple = _SHOWN.maxdict = 12
SCALARS: Mapping[TypeForm, TypeForm] = {
    bool: Annotated[bool, Strict()],
    int: Annotated[int, Strict(), BeforeValidator(_to_python)],
    float: Annotated[float, Strict(), AllowInfNan(False), BeforeValidator(_to_python)],
    str: Annotated[Any, described_values("a text", _is_text)],
    Path: Annotated[InstanceOf[Path], described_values("a path")],
}
NAME_WORDS = f"a name: a text of 1 to {MAX_NAME} characters on one line, a number in quotes: '5'"
Name = Annotated[str, described_values(NAME_WORDS, is_name)]
# A path as a text. It may hold bytes that are no UTF-8, which Python has as halves of characters.
File = Annotated[Any, described_values("the path of a file or folder", is_path)]
