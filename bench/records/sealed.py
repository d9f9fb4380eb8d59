"""Files with a checksum: `axiom_bench_sha256`, what the format puts there, and the SHA-256 of the file's name and all
of its bytes, taken while its 64 digits are zeros. It stands where other readers pass over it: a Parquet file in its
footer's metadata, an archive in its comment, JSON in its last entry."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from axiom_bench.errors import BenchError
from axiom_bench.records import files

NAME, ZEROS = "axiom_bench_sha256", "0" * 64  # what a writer leaves in a file, for `seal`
_DIGITS = re.compile(NAME.encode() + rb"[^0-9a-f]{2,4}([0-9a-f]{64})")
_OF_THE_MACHINE = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)  # reasons not to read that aren't the file's


class Damaged(BenchError):
    """A file whose bytes aren't those that were written."""


def write(path: Path, content: bytes, named: bool = True) -> None:
    """Writes a file with NAME and ZEROS in it, completely or not at all, with its checksum. Raises BenchError. named:
    the checksum is also of the name, so that a file that is renamed counts as damaged."""
    files.write(path, seal(path.name if named else "", content))


def seal(name: str, content: bytes) -> bytes:
    """The content with its checksum in the place of ZEROS. name: of the file."""
    start, end = _place(content) or (0, 0)
    assert content[start:end] == ZEROS.encode(), "no place is left for a checksum"
    return content[:start] + _digest(name, content, start) + content[end:]


def content_of(path: Path, named: bool = True) -> bytes:
    """A file's bytes. named: see `write`. Raises `Damaged` where it is missing, or its checksum doesn't match."""
    try:
        content = files.read(path)
    except FileNotFoundError as error:
        raise Damaged(f"The file {path} can't be read: it is missing; run the same command again.") from error
    except OSError as error:
        raise unreadable(path, error) from error
    if _place(content) is None:
        raise Damaged(f"The file {path} can't be read: it has no checksum; run the same command again.")
    if not is_intact(path.name if named else "", content):
        raise Damaged(f"The file {path} is damaged (its checksum doesn't match); run the same command again.")
    return content


def is_intact(name: str, content: bytes) -> bool:
    """Whether these bytes are those that were written as a file of this name."""
    place = _place(content)
    return place is not None and content[slice(*place)] == _digest(name, content, place[0])


def is_usable(path: Path, is_right: Callable[[bytes], bool] = bool) -> bool:
    """Whether a file is there, its bytes are those that were written, and they are right. One that is there and isn't
    usable is told: see `files.warn_damaged`."""
    with suppress(Damaged):
        if is_right(content_of(path)):
            return True
    if os.path.lexists(path):
        files.warn_damaged(path)
    return False


def unreadable(path: Path, error: Exception) -> BenchError:
    """The error for a file that can't be read: `Damaged`, but for what another moment may mend."""
    kind = BenchError if isinstance(error, OSError) and error.errno in _OF_THE_MACHINE else Damaged
    return kind(f"The file {path} can't be read ({error}); run the same command again.")


def write_json(path: Path, content: Mapping[str, Any], indent: int | None = None) -> None:
    """Writes plain data (what else is in it by its `str`) with its checksum. Raises BenchError where it can't."""
    files.write(path, to_json(path.name, content, indent))


def to_json(name: str, content: Mapping[str, Any], indent: int | None = None) -> bytes:
    """What `write_json` writes. name: of the file."""
    last = {**{key: value for key, value in content.items() if key != NAME}, NAME: ZEROS}
    return seal(name, (json.dumps(last, indent=indent, default=str) + "\n").encode())


def read_json(path: Path) -> dict[str, Any]:
    """The content, without its checksum. Raises OSError where there is no such file, else ValueError where it holds
    something else than what was written."""
    content = files.read(path)
    if not is_intact(path.name, content):
        raise ValueError("its checksum doesn't match" if _place(content) else "it has no checksum")
    return mapping(content)


def mapping(content: bytes) -> dict[str, Any]:
    """The mapping in a JSON file, intact or not, without its checksum. Raises ValueError for what holds none."""
    try:
        entries = json.loads(content)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(entries, dict):
        raise ValueError("it holds no mapping")
    entries.pop(NAME, None)
    return entries


def read_json_or_none(path: Path) -> dict[str, Any] | None:
    """The content; None where there is no such file, or it is damaged, which is told: see `files.warn_damaged`."""
    try:
        return read_json(path)
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        files.warn_damaged(path)
        return None


def _place(content: bytes) -> tuple[int, int] | None:
    """Where the digits are: the last name in the file is that of the checksum."""
    match = _DIGITS.match(content, max(0, content.rfind(NAME.encode())))
    return None if match is None else match.span(1)


def _digest(name: str, content: bytes, place: int) -> bytes:
    """In hexadecimal; place: of the digits."""
    digest = hashlib.sha256(name.encode(errors="replace"))
    view = memoryview(content)
    for part in (view[:place], ZEROS.encode(), view[place + len(ZEROS) :]):
        digest.update(part)
    return digest.hexdigest().encode()
