"""What a setting or a parameter may be: the annotation of what takes it says so, and a wrong value is one sentence.

Side = Annotated[int, whole(1, "pixels")]      # a refinement of the annotation: a Kind beside it
check(a_function, {"side": 0}, "model.")       # BenchError: model.side must be pixels, 1 or more, not 0.
"""

from __future__ import annotations

import inspect
import math
import os
import reprlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from axiom_bench.errors import BenchError

MAX_NAME = 200  # characters of a name that stands in tables and titles, or as a part of a file's name
MAX_PATH = 2000  # characters; Linux allows 4096 bytes
MAX_SHOWN = 300  # characters of a value in an error
MAX_FILE_NAME = 255  # bytes between two slashes


@dataclass(frozen=True)
class Kind:
    """Values that belong together. expected: what they are, for an error; plural: the same of several."""

    fits: Callable[[object], bool]
    expected: str
    plural: str = ""


def check(function: Callable[..., Any], values: Mapping[str, Any], prefix: str) -> None:
    """Raises BenchError for a value that isn't of the kind that the function's (or dataclass's) annotation says.

    prefix: what stands before a value's name in the error, such as "metric.box_iou.params.". A parameter without an
    annotation, or with one that `kind_of` doesn't support, isn't checked.
    """
    parameters = signature(function)
    optional = {key for key in parameters if parameters[key].default is None}  # as in `size: int = None`
    set_values = {key: value for key, value in values.items() if value is not None or key not in optional}
    check_values(set_values, kinds({key: parameter.annotation for key, parameter in parameters.items()}), prefix)


def check_values(values: Mapping[str, Any], kinds: Mapping[str, Kind], prefix: str = "") -> None:
    """Raises BenchError for the first value that isn't of its kind, called prefix + key."""
    for key, kind in kinds.items():
        if key in values and not kind.fits(values[key]):
            raise BenchError(f"{prefix}{key} must be {kind.expected}, not {shown(values[key])}.")


def check_group(setting: str, value: object) -> Mapping[str, Any]:
    """The value, if it is a group of settings. Raises BenchError."""
    if not isinstance(value, Mapping):
        raise BenchError(
            f"{setting} is a group of settings, of which you set one, as {setting}.NAME=..., not {shown(value)}."
        )
    for key in value:
        if not isinstance(key, str):
            raise BenchError(f"{setting} holds {shown(key)}, which isn't the name of a setting.")
    return value


def kinds(annotations: Mapping[str, Any]) -> dict[str, Kind]:
    """The kind of each annotation that `kind_of` supports."""
    return {key: kind for key, annotation in annotations.items() if (kind := kind_of(annotation)) is not None}


def signature(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """A function's parameters with evaluated annotations; none where these can't be evaluated."""
    try:
        return inspect.signature(function, eval_str=True).parameters
    except Exception:  # noqa: BLE001 - a user's annotations may name what isn't imported, and evaluate to anything
        return {}


def kind_of(annotation: Any) -> Kind | None:
    """The kind of an annotation; None for one that isn't supported."""
    origin, inner = get_origin(annotation) or annotation, get_args(annotation)
    if origin is Annotated:
        return _refined(kind_of(inner[0]), inner[1:])
    if origin in (Union, UnionType):
        return _union([kind_of(each) for each in inner])
    if origin is Literal:
        return one_of(inner)
    if origin in LISTS:
        return _list(origin, inner)
    if origin in (Mapping, dict):
        return _mapping(kind_of(inner[1]) if inner else None)
    if origin is Callable:
        return Kind(callable, "a function", "functions")
    return SIMPLE.get(origin) if isinstance(origin, type) else None


def whole(least: int, of: str = "a whole number", most: int | None = None) -> Kind:
    """Whole numbers from `least` on, up to `most`."""
    bounds = f"{least} or more" if most is None else f"{least} to {most}"
    fits = _number(Integral)
    return Kind(lambda value: fits(value) and least <= value and (most is None or value <= most), f"{of}, {bounds}")  # type: ignore[operator]


def worded(expected: str) -> Kind:
    """All values of an annotation, named by these words in an error."""
    return Kind(lambda _: True, expected)


def one_of(values: Collection[Any]) -> Kind:
    """One of these."""
    words = " or ".join(map(repr, values))
    return Kind(lambda value: _is_hashable(value) and value in values, words, words)


def shown(value: object) -> str:
    """A value in an error: its start, where it is long."""
    text = _SHOWN.repr(value)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."


def is_name(value: object) -> bool:
    """Whether a value can stand in tables, titles and files: a text of at most MAX_NAME characters on one line, which
    isn't blank at either end."""
    return _is_text(value) and 0 < len(value) <= MAX_NAME and value.isprintable() and value == value.strip()  # type: ignore[arg-type, attr-defined]


def is_path(value: object) -> bool:
    """Whether a value can be the path of a file or folder, which need not be there; ~ may stand for a home."""
    if not isinstance(value, str) or not value.strip() or len(value) > MAX_PATH or min(value) < " ":
        return False
    try:
        Path(value).expanduser()
        return all(len(part) <= MAX_FILE_NAME for part in os.fsencode(value).split(b"/"))
    except (UnicodeError, RuntimeError):  # half a character; the home of nobody
        return False


def _is_text(value: object) -> bool:
    """A text that can be written to a file: without NUL, and without halves of characters."""
    return isinstance(value, str) and "\0" not in value and not any("\ud800" <= mark <= "\udfff" for mark in value)


def _is_hashable(value: object) -> bool:
    return not isinstance(value, list | dict | set)


def _number(of: type) -> Callable[[object], bool]:
    return lambda value: isinstance(value, of) and not isinstance(value, bool)  # bool is a subclass of int


def _is_finite(value: object) -> bool:
    """Whether it is a number of float64's range."""
    try:
        return _number(Real)(value) and math.isfinite(value)  # type: ignore[arg-type]
    except OverflowError:
        return False


def _refined(kind: Kind | None, refinements: Sequence[Any]) -> Kind | None:
    refinement = next((each for each in refinements if isinstance(each, Kind)), None)
    if kind is None or refinement is None:
        return kind or refinement
    fits = kind.fits  # first: the refinement may rely on it
    return Kind(lambda value: fits(value) and refinement.fits(value), refinement.expected, refinement.plural)


def _union(kinds: Sequence[Kind | None]) -> Kind | None:
    members = [kind for kind in kinds if kind is not None]
    if len(members) < len(kinds):
        return None
    expected = " or ".join(dict.fromkeys(kind.expected for kind in members))
    plural = " or ".join(dict.fromkeys(kind.plural for kind in members))
    return Kind(lambda value: any(kind.fits(value) for kind in members), expected, plural)


def _list(origin: Any, inner: tuple[Any, ...]) -> Kind:
    """A list or tuple with entries of a kind, or of any kind; of tuple[X, X] with as many."""
    of = kind_of(inner[0]) if inner and set(inner[1:]) <= {inner[0], ...} else None
    length = len(inner) if origin is tuple and inner and ... not in inner else None

    def fits(value: object) -> bool:
        entries = isinstance(value, list | tuple) and (of is None or all(map(of.fits, value)))
        return entries and (length is None or len(value) == length)  # type: ignore[arg-type]

    count = f"{length} " if length else ""
    return Kind(fits, f"a list of {count}{of.plural or of.expected}" if of else "a list", "lists")


def _mapping(of: Kind | None) -> Kind:
    """A mapping from texts to values of a kind, or of any kind."""

    def fits(value: object) -> bool:
        entries = value.items() if isinstance(value, Mapping) else [(None, None)]
        return all(isinstance(key, str) and (of is None or of.fits(entry)) for key, entry in entries)

    return Kind(fits, f"a mapping to {of.plural or of.expected}" if of else "a mapping", "mappings")


_SHOWN = reprlib.Repr()
_SHOWN.maxstring = _SHOWN.maxother = _SHOWN.maxlong = 100
_SHOWN.maxlist = _SHOWN.maxtuple = _SHOWN.maxdict = 12
LISTS = (list, tuple, Sequence)
SIMPLE: dict[Any, Kind] = {
    bool: Kind(lambda value: isinstance(value, bool), "true or false", "true or false"),
    int: Kind(_number(Integral), "a whole number", "whole numbers"),
    float: Kind(_is_finite, "a number", "numbers"),
    str: Kind(_is_text, "a text", "texts"),
    Path: Kind(lambda value: isinstance(value, Path), "a path", "paths"),
    NoneType: Kind(lambda value: value is None, "null", "null"),
}
_NAME = Kind(is_name, f"a name: a text of 1 to {MAX_NAME} characters on one line, a number in quotes", "names")
_PATH = Kind(is_path, "the path of a file or folder", "paths")
Name = Annotated[str, _NAME]
File = Annotated[str, _PATH]
"""A path as a text; it may hold bytes that are no UTF-8, which Python has as halves of characters."""
