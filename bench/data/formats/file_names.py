r"""Names of files as text: every name a file system has becomes UTF-8 without control characters, and comes back.

A byte that isn't UTF-8, and a control character, is written as \xNN: `caf\xe9.jpg`, `two\x0alines.jpg`. A backslash
that stands before xNN in the name itself is written as \x5c, so that no two names become the same text.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from axiom_bench.errors import BenchError

MAX_SHOWN = 100  # characters of a value in a message
_ESCAPED = re.compile(r"(?:\\x[0-9a-f]{2})+")
_UNWRITABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]|\\(?=x[0-9a-f]{2})")


def as_text(name: str | Path) -> str:
    r"""A file's name as Python has it, as text that can be stored and shown.

    >>> as_text("caf\udce9.jpg")
    'caf\\xe9.jpg'
    """
    return _UNWRITABLE.sub(lambda match: "".join(f"\\x{byte:02x}" for byte in _bytes(match[0])), str(name))


def as_name(text: str) -> str:
    r"""The name again.

    >>> as_name("caf\\xe9.jpg")
    'caf\udce9.jpg'
    """
    return _ESCAPED.sub(lambda match: os.fsdecode(bytes.fromhex(match[0].replace("\\x", ""))), text)


def _bytes(character: str) -> bytes:
    """Its bytes in a file's name; of half a surrogate pair, which no file's name has, those that UTF-8 would give."""
    try:
        return os.fsencode(character)
    except UnicodeEncodeError:
        return character.encode("utf-8", "surrogatepass")


def ids_of(names: Iterable[object], source: str) -> tuple[str, ...]:
    """The image ids of names that a file lists, in its order: relative paths of files.

    source: the file, for errors. Raises BenchError for a name that is no path of a file below the data set's folder,
    and for one that is listed twice, since one of the two images would be lost.
    """
    ids: dict[str, None] = {}
    for name in names:
        if not isinstance(name, str) or not _is_inside(name):
            raise BenchError(
                f"{source} names the image {shown(name)}, which is no path of a file below the data set's folder; "
                "correct or remove it."
            )
        image_id = as_text(name)
        if image_id in ids:
            raise BenchError(f"{source} names the image {shown(name)} twice; give each image a name of its own.")
        ids[image_id] = None
    return tuple(ids)


def _is_inside(name: str) -> bool:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.name or "\0" in name:
        return False
    return as_name(as_text(name)) == name  # half a surrogate pair is in no file's name


def shown(value: object) -> str:
    """Something that a file holds, for a message: as Python writes it, but no more than a line."""
    text = repr(value)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."
