"""The shape of plain data that may come from a stranger: which entries are mappings, lists, text or numbers."""

from __future__ import annotations

import json
import textwrap
from dataclasses import dataclass
from typing import Any

Shape = Any  # types | a dict {name: Shape}, all of them optional | [Shape] of a list's entries | Each
TEXT, NUMBER, ANY = (str,), (int, float), (object,)
SCALAR = (str, int, float, bool)
NAMES: dict[tuple[type, ...], str] = {
    **{TEXT: "text", NUMBER: "a number", SCALAR: "text or a number"},
    **{(bool,): "true or false", (int,): "a whole number"},
}


@dataclass(frozen=True)
class Each:
    """A mapping from any name to entries of one shape."""

    of: Shape


def problem(value: object, shape: Shape, where: str = "") -> str | None:
    """What is wrong with the first entry that hasn't its shape; None where all have. An entry may be null where it may
    be left out."""
    if isinstance(shape, Each):
        shape, of = {}, shape.of
        entries = [(name, entry, of) for name, entry in value.items()] if isinstance(value, dict) else []
    elif isinstance(shape, dict):
        own = value if isinstance(value, dict) else {}
        entries = [(name, own[name], of) for name, of in shape.items() if own.get(name) is not None]
    elif isinstance(shape, list):
        entries = (
            [(str(place), entry, shape[0]) for place, entry in enumerate(value)] if isinstance(value, list) else []
        )
    else:
        is_bool = isinstance(value, bool) and bool not in shape and object not in shape
        return None if isinstance(value, shape) and not is_bool else _wrong(where, NAMES[shape], value)
    if not isinstance(value, type(shape)):
        return _wrong(where, "a list" if isinstance(shape, list) else "a mapping", value)
    inner = (problem(entry, of, f"{where}.{name}" if where else name) for name, entry, of in entries)
    return next((found for found in inner if found is not None), None)


def short(value: object) -> str:
    """A value as JSON, cut to a few words."""
    return textwrap.shorten(json.dumps(value, default=str), 60, placeholder="...")


def _wrong(where: str, kind: str, value: object) -> str:
    return f"its {where[:100]!r} must be {kind}, not {short(value)}"
