"""SHA-256 of files that were read before: they are recognised again by path, size and time of modification."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

UNREADABLE = "unreadable-"  # begins the hash of files that are there and can't be read; it isn't kept
SETTLED = 2.0  # seconds: a file that was changed more recently may change again within its clock's tick


class FileHashes:
    """cached: {stamp of the files: hash}, from an earlier run. current: the entries that were looked up since."""

    def __init__(self, cached: Mapping[str, str] | None = None) -> None:
        self.cached: Mapping[str, str] = cached or {}
        self.current: dict[str, str] = {}

    def of(self, paths: Iterable[Path | None], compute: Callable[[], str], part: str = "") -> str:
        """The hash of these files' content, computed unless it is cached. part: names what is hashed in the files."""
        stamp, settled = _stamp(paths)
        stamp += part
        digest = self.current.get(stamp) or self.cached.get(stamp) or compute()
        if settled and not digest.startswith(UNREADABLE):
            self.current[stamp] = digest
        return digest


def _stamp(paths: Iterable[Path | None]) -> tuple[str, bool]:
    """(absolute path, size and time of modification of each file, and whether it may not be read; whether no file was
    changed just now)."""
    entries, latest = [], 0
    for path in paths:
        try:
            state = None if path is None else os.stat(path)
        except OSError:
            state = None
        size, modified = (state.st_size, state.st_mtime_ns) if state else (-1, 0)
        denied = "" if path is None or state is None or os.access(path, os.R_OK) else "|denied"
        entries.append(f"{'' if path is None else os.path.abspath(path)}|{size}|{modified}{denied}")
        latest = max(latest, modified)
    return "|".join(entries), time.time() - latest / 1e9 > SETTLED
