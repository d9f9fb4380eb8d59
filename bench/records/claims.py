"""Locks between processes that share a run folder: who computes which shard, and who runs or tidies the folder.

A lock dies with its process, so what a killed process has claimed is free.
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


def claimed(shards: Sequence[str], folder: Path, wait: Callable[[int], None]) -> Generator[str, None, None]:
    """Each shard (its key) once, locked until the next one is asked for.

    What another process holds comes last, once that process has let it go, or died. wait: is called with the number of
    such shards before they are waited for. Whoever stops early closes the generator, which lets go of the lock.
    """
    elsewhere: list[str] = []
    for shard in shards:
        lock = shard_lock(shard, folder)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            elsewhere.append(shard)
            continue
        with _released(lock):
            yield shard
    if elsewhere:
        wait(len(elsewhere))
    for shard in elsewhere:
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


@contextmanager
def tidying(folder: Path) -> Iterator[None]:
    """Has the folder alone. Raises BenchError where a run, or another `tidy`, is using it."""
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
    """The lock held, then let go and its file removed: whoever waits for that file looks again for what is missing."""
    try:
        yield
    finally:
        with suppress(PermissionError):  # Windows keeps a file that is open
            Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()
