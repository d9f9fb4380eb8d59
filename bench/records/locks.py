"""Locks of a run folder: one command at a time computes into it, and one process at a time writes its report.

A lock ends with its process. Beside it lies a note of who holds it, for those who wait.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from axiom_bench.errors import BenchError
from axiom_bench.records import files

RUN, REPORT = ".run.lock", ".report.lock"
PATIENCE = 1.0  # seconds of waiting until it is said whom for


@contextmanager
def held(folder: Path, name: str = RUN, wait: bool = True) -> Iterator[None]:
    """Takes a lock once it is free, and says who holds it until then. Its file stays, since others may have it open.

    Raises BenchError where the folder can't be written, and unless it waits while another process holds the lock.
    """
    lock, note = FileLock(folder / name), _note(folder, name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / name).is_symlink() or (folder / name).is_dir():
            files.discard(folder / name)
        try:
            lock.acquire(timeout=PATIENCE)
        except Timeout:
            if not wait:
                raise BenchError(f"{folder} is in use: {holder(folder, name)}. Wait until that has ended.") from None
            print(f"waiting for {folder}: {holder(folder, name)}", file=sys.stderr, flush=True)
            lock.acquire()  # Ctrl-C ends the waiting
    except OSError as error:
        raise files.unwritable(folder, error) from error
    with suppress(OSError):  # without it nothing is lost but a word
        note.write_bytes(files.to_json(note.name, {**files.process(), "since": f"{datetime.now():%Y-%m-%d %H:%M}"}))
    try:
        yield
    finally:
        with suppress(OSError):
            note.unlink(missing_ok=True)
        lock.release()


def in_use(folder: Path) -> bool:
    """Whether a command that hasn't ended holds the folder."""
    if not (folder / RUN).is_file():
        return False
    try:
        with FileLock(folder / RUN, timeout=0):
            return False
    except Timeout:
        return True


def holder(folder: Path, name: str = RUN) -> str:
    """Who holds a lock, since when, and how to end that."""
    try:
        about = files.read_json(_note(folder, name))
        return f"process {about['process']} on {about['host']} holds it since {about['since']} (`kill` ends it)"
    except (OSError, ValueError, KeyError):
        return "another process holds it"


def _note(folder: Path, name: str) -> Path:
    return folder / f"{name.removesuffix('.lock')}.holder"
