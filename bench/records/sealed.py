"""JSON files with a checksum: a flipped digit must not be read as another number."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from axiom_bench.records import files
from axiom_bench.records.keys import key

SEAL = "sha256"


def write(path: Path, content: Mapping[str, Any], indent: int | None = None) -> None:
    """Writes plain data (what else is in it by its `str`) with its checksum. Raises BenchError where it can't."""
    files.write(path, text(content, indent).encode())


def text(content: Mapping[str, Any], indent: int | None = None) -> str:
    """What `write` writes."""
    plain = json.loads(json.dumps(content, default=str))
    return json.dumps({SEAL: key(**plain), **plain}, indent=indent) + "\n"


def read(path: Path) -> dict[str, Any]:
    """The content, without its checksum. Raises OSError where there is no such file, else ValueError where it holds
    something else than what was written."""
    content, is_sealed = parse(files.read(path))
    if not is_sealed:
        raise ValueError("it has no checksum")
    return content


def parse(raw: bytes) -> tuple[dict[str, Any], bool]:
    """(a file's content, whether it has a checksum, as no earlier version wrote it). Raises ValueError for what isn't a
    mapping in JSON, or isn't what the checksum is of."""
    try:
        content = json.loads(raw)
        if not isinstance(content, dict):
            raise ValueError("it holds no mapping")
        seal = content.pop(SEAL, None)
        if seal is not None and seal != key(**content):
            raise ValueError("its checksum doesn't match")
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    return content, seal is not None


def read_or_none(path: Path) -> dict[str, Any] | None:
    """The content; None where there is no such file, or it is damaged, which is told: see `files.warn_damaged`."""
    try:
        return read(path)
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        files.warn_damaged(path)
        return None
