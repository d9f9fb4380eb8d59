"""Locks between processes that share a run folder: who computes which shard, and who runs or tidies the folder.

A lock ends with its process, so what a killed process had claimed is free.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from filelock import FileLock, Timeout

from axiom_bench.errors import BenchError

FOLDER = "records"  # of the shards' locks, beside what they are for
RUNS = ".run.*.lock"
TIDY = ".tidy.lock"
REPORT = ".report.lock"


def claimed(shards: Sequence[str], folder: Path, wait: Callable[[int], None]) -> Generator[str, None, None]:
    """Each shard (its key) once, locked until the next one is asked for.

    Shards that another process holds come last, once that process has released them or died. wait: called with their
    number before they are waited for. Closing the generator early releases its lock.
    """
    held_by_others: list[str] = []
    for shard in shards:
        lock = shard_lock(shard, folder)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            held_by_others.append(shard)
            continue
        with _released(lock):
            yield shard
    if held_by_others:
        wait(len(held_by_others))
    for shard in held_by_others:
        lock = shard_lock(shard, folder)
        lock.acquire()
        with _released(lock):
            yield shard


@contextmanager
def running(folder: Path) -> Iterator[None]:
    """Marks the folder as used by a run. Waits for a `tidy` of the folder to end; runs don't exclude each other."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / RUNS.replace("*", uuid4().hex[:8]))
    lock.acquire()
    with _released(lock):
        tidy = FileLock(folder / TIDY)
        tidy.acquire()
        with _released(tidy):
            pass
        yield


def in_use(folder: Path) -> bool:
    """Whether a run that hasn't ended holds the folder."""
    for path in folder.glob(RUNS):
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return True
        lock.release()  # of a process that was killed
    return False


@contextmanager
def reporting(folder: Path) -> Iterator[None]:
    """One process at a time writes a folder's report: a run that ends, and one that watches it."""
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / REPORT):
        yield


@contextmanager
def tidying(folder: Path) -> Iterator[None]:
    """Claims the whole folder. Raises BenchError while a run, or another `tidy`, is using it."""
    tidy = FileLock(folder / TIDY)
    try:
        tidy.acquire(timeout=0)
    except Timeout as error:
        raise BenchError(f"{folder} is being tidied by another process; wait for it to end.") from error
    with _released(tidy):
        for path in sorted(folder.glob(RUNS)):
            run = FileLock(path)
            try:
                run.acquire(timeout=0)
            except Timeout as error:
                raise BenchError(f"A run is using {folder}; tidy it when the run has ended.") from error
            with _released(run):  # of a process that was killed
                pass
        yield


def shard_lock(shard: str, folder: Path) -> FileLock:
    """The lock of a shard, by its key."""
    (folder / FOLDER).mkdir(parents=True, exist_ok=True)
    return FileLock(folder / FOLDER / f".{shard}.lock")


@contextmanager
def _released(lock: FileLock) -> Iterator[None]:
    """Releases a held lock and removes its file; a process that waited for it checks again what is missing."""
    try:
        yield
    finally:
        with suppress(PermissionError):  # Windows keeps a file that is open
            Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()
