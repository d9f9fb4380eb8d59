"""Locks between processes that share a run folder: who computes which shard, and who runs or tidies the folder.

A lock ends with its process, so what a killed process had claimed is free. A process that is stopped keeps its locks:
beside each lies a note of who holds it, for those who wait.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from filelock import FileLock, Timeout

from axiom_bench.errors import BenchError
from axiom_bench.records import files, sealed

Say = Callable[[str], None]
FOLDER = "records"  # of the shards' locks, beside what they are for
RUNS = ".run.*.lock"
TIDY = ".tidy.lock"
REPORT = ".report.lock"
PATIENCE, MOST_PATIENCE = 10.0, 600.0  # seconds of waiting before the first word, and between two words at most


def claimed(shards: Sequence[str], folder: Path, say: Say, wait: bool = True) -> Generator[str, None, None]:
    """Each shard (its key) once, locked until the next one is asked for.

    Shards that another process holds come last, once that process has released them or died; without `wait` they are
    left to it. say: is told how many there are before they are waited for, and seldom, while one is waited for, who
    holds it. Closing the generator early releases its lock. Raises BenchError where the folder can't be written.
    """
    held_by_others = yield from _free(shards, folder)
    held_by_others = yield from _free(held_by_others, folder)  # most of them have been computed since
    if not held_by_others or not wait:
        return
    count = len(held_by_others)
    say(f"waiting for {count} shard{'s' if count > 1 else ''} that other processes compute")
    for shard in held_by_others:
        lock = shard_lock(shard, folder)
        _wait(lock, f"shard {shard[:8]}", say)
        with _released(lock), _noted(lock):
            yield shard


def _free(shards: Sequence[str], folder: Path) -> Generator[str, None, list[str]]:
    """Each shard that no other process holds, locked until the next one is asked for; returns the others."""
    held_by_others = []
    for shard in shards:
        lock = shard_lock(shard, folder)
        if not _acquired(lock):
            held_by_others.append(shard)
            continue
        with _released(lock), _noted(lock):
            yield shard
    return held_by_others


@contextmanager
def running(folder: Path) -> Iterator[None]:
    """Marks the folder as used by a run. Waits for a `tidy` of the folder to end; runs don't exclude each other."""
    _make(folder)
    lock = FileLock(folder / RUNS.replace("*", uuid4().hex[:8]))
    _wait(lock, str(folder), _to_stderr)
    with _released(lock):
        tidy = FileLock(folder / TIDY)
        _wait(tidy, f"{folder}, which it tidies", _to_stderr)
        with _released(tidy):
            pass
        yield


def sweep(folder: Path) -> None:
    """Removes what killed processes left behind: locks that nobody holds, notes of who held one, drafts of files."""
    files.sweep(folder)
    for path in (*folder.glob(RUNS), *(folder / FOLDER).glob(".*.lock")):
        lock = FileLock(path)
        if _acquired(lock):
            with _released(lock):
                _note(lock).unlink(missing_ok=True)


def in_use(folder: Path) -> bool:
    """Whether a run that hasn't ended holds the folder."""
    for path in folder.glob(RUNS):
        lock = FileLock(path)
        if not _acquired(lock):
            return True
        lock.release()  # of a process that was killed
    return False


@contextmanager
def reporting(folder: Path) -> Iterator[None]:
    """One process at a time writes a folder's report: a run that ends, and one that watches it."""
    _make(folder)
    lock = FileLock(folder / REPORT)
    _wait(lock, f"the report of {folder}", _to_stderr)
    with _noted(lock):
        try:
            yield
        finally:
            lock.release()  # the file stays: a page that is watched is written again and again


@contextmanager
def tidying(folder: Path) -> Iterator[None]:
    """Claims the whole folder. Raises BenchError while a run, or another `tidy`, is using it."""
    tidy = FileLock(folder / TIDY)
    if not _acquired(tidy):
        raise BenchError(f"{folder} is being tidied by another process; wait for it to end.")
    with _released(tidy), _noted(tidy):
        for path in sorted(folder.glob(RUNS)):
            run = FileLock(path)
            if not _acquired(run):
                raise BenchError(f"A run is using {folder}; tidy it when the run has ended.")
            with _released(run):  # of a process that was killed
                pass
        yield


def shard_lock(shard: str, folder: Path) -> FileLock:
    """The lock of a shard, by its key."""
    _make(folder / FOLDER)
    return FileLock(folder / FOLDER / f".{shard}.lock")


def _make(folder: Path) -> None:
    """Makes a folder. Raises BenchError where it can't be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise files.unwritable(folder, error) from error


def _acquired(lock: FileLock, timeout: float = 0) -> bool:
    """Takes a lock unless another process holds it for longer than that. What is no lock file makes way for one.

    Raises BenchError where the folder can't be written.
    """
    path = Path(lock.lock_file)
    try:
        if path.is_symlink() or path.is_dir():
            files.discard(path)
        lock.acquire(timeout=timeout)
    except Timeout:
        return False
    except OSError as error:
        raise files.unwritable(path.parent, error) from error
    return True


def _wait(lock: FileLock, what: str, say: Say) -> None:
    """Takes a lock, and says who holds it after PATIENCE seconds, then seldom. Ctrl-C ends the waiting."""
    patience = PATIENCE
    while not _acquired(lock, patience):
        say(f"waiting for {what}: {_holder(_note(lock))}")
        patience = min(3 * patience, MOST_PATIENCE)


@contextmanager
def _noted(lock: FileLock) -> Iterator[None]:
    """Notes beside a lock that was taken who holds it."""
    note = _note(lock)
    about = {"host": files.host(), "place": files.place(), "process": os.getpid(), "since": time.time()}
    with suppress(OSError):  # without it nothing is lost but a word
        note.write_bytes(sealed.to_json(note.name, about))
    try:
        yield
    finally:
        with suppress(OSError):
            note.unlink(missing_ok=True)


def _holder(note: Path) -> str:
    """Who holds a lock, for how long, and how to end that."""
    try:
        about = sealed.read_json(note)
        host, number, seconds = str(about["host"]), int(about["process"]), max(0.0, time.time() - about["since"])
    except (OSError, ValueError, KeyError, TypeError):
        return "another process holds it"
    held = f"process {number} on {host} has held it for {_duration(seconds)}"
    if about.get("place") != files.place():
        return f"{held}; `kill {number}` on {host} ends that process, and this one goes on"
    if files.is_stopped(number):
        return (
            f"{held} and is stopped; `kill -CONT {number}` lets it go on, `kill -KILL {number}` ends it, and this one "
            "goes on"
        )
    return f"{held}; `kill {number}` ends that process, and this one goes on"


def _duration(seconds: float) -> str:
    """In the largest unit of which there is one.

    >>> _duration(59), _duration(150), _duration(8000)
    ('59 s', '2 min', '2.2 h')
    """
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds // 60:.0f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"


def _note(lock: FileLock) -> Path:
    """Where it is noted who holds a lock."""
    return Path(lock.lock_file).with_suffix(".holder")


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


@contextmanager
def _released(lock: FileLock) -> Iterator[None]:
    """Releases a held lock and removes its file; a process that waited for it checks again what is missing."""
    try:
        yield
    finally:
        with suppress(PermissionError):  # Windows keeps a file that is open
            Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()
