"""Parameters against the annotations of the function that takes them: a value of the wrong kind is one sentence."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from axiom_bench.configs import Setting, check_values


@dataclass(frozen=True)
class Kind(Setting):
    """The values that an annotation allows. plural: what is expected, in the plural."""

    plural: str


def _number(of: type) -> Callable[[object], bool]:
    return lambda value: isinstance(value, of) and not isinstance(value, bool)  # bool is a subclass of int


SIMPLE: dict[Any, Kind] = {
    bool: Kind(lambda value: isinstance(value, bool), "true or false", "true or false"),
    int: Kind(_number(Integral), "a whole number", "whole numbers"),
    float: Kind(lambda value: _number(Real)(value) and value == value, "a number", "numbers"),  # no NaN
    str: Kind(lambda value: isinstance(value, str), "a text", "texts"),
    NoneType: Kind(lambda value: value is None, "null", "null"),
}
LISTS = (list, tuple, Sequence)


def check(setting: str, function: Callable[..., Any], params: Mapping[str, Any]) -> None:
    """Raises BenchError for a parameter whose value isn't of the kind that the function's annotation says.

    setting: where they are set, such as "metric.box_iou.params". A parameter without an annotation, or with one that
    `kind_of` doesn't support, isn't checked.
    """
    parameters = signature(function)
    optional = {key for key in parameters if parameters[key].default is None}  # as in `size: int = None`
    set_values = {key: value for key, value in params.items() if value is not None or key not in optional}
    check_values(set_values, kinds({key: parameter.annotation for key, parameter in parameters.items()}), f"{setting}.")


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
    if origin in (Union, UnionType):
        return _union([kind_of(each) for each in inner])
    if origin is Literal:
        return _literal(inner)
    if origin in LISTS:
        return _list(kind_of(inner[0]) if inner and set(inner[1:]) <= {inner[0], ...} else None)
    if origin in (Mapping, dict):
        return Kind(lambda value: isinstance(value, Mapping), "a mapping", "mappings")
    if origin is Callable:
        return Kind(callable, "a function", "functions")
    return SIMPLE.get(origin) if isinstance(origin, type) else None


def _union(kinds: Sequence[Kind | None]) -> Kind | None:
    members = [kind for kind in kinds if kind is not None]
    if len(members) < len(kinds):
        return None
    expected = " or ".join(kind.expected for kind in members)
    plural = " or ".join(kind.plural for kind in members)
    return Kind(lambda value: any(kind.fits(value) for kind in members), expected, plural)


def _literal(values: tuple[Any, ...]) -> Kind:
    words = " or ".join(map(repr, values))
    return Kind(lambda value: value in values, words, words)


def _list(of: Kind | None) -> Kind:
    """A list or tuple with entries of a kind, or of any kind."""

    def fits(value: object) -> bool:
        return isinstance(value, list | tuple) and (of is None or all(map(of.fits, value)))

    return Kind(fits, f"a list of {of.plural}" if of else "a list", "lists")
