"""Which process computes which shard, where several run the same command in one run folder."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from axiom_bench.run.compute import Todo

FOLDER = "records"  # beside what they are for


def claimed(
    todo: Sequence[Todo], folder: Path, wait: Callable[[int], None]
) -> Generator[tuple[Todo, dict[str, str]], None, None]:
    """Each shard once, with the files that are still missing there, held by a lock until the next one is asked for.

    What another process holds comes last, once that process has let it go: without missing files where it was finished,
    with them where the process died, whose locks die with it. wait: told how many there are before they are waited for.
    Whoever stops early closes the generator, which lets go of the lock.
    """
    elsewhere: list[Todo] = []
    for one in todo:
        lock = _lock(one, folder)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            elsewhere.append(one)
            continue
        with _released(lock):
            yield one, one.missing(folder)
    if elsewhere:
        wait(len(elsewhere))
    for one in elsewhere:
        lock = _lock(one, folder)
        lock.acquire()
        with _released(lock):
            yield one, one.missing(folder)


@contextmanager
def _released(lock: FileLock) -> Iterator[None]:
    """The lock held, then let go and its file removed: whoever waits for that file looks again for what is missing."""
    try:
        yield
    finally:
        with suppress(PermissionError):  # Windows keeps a file that is open
            Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


def _lock(one: Todo, folder: Path) -> FileLock:
    """A lock that processes share which compute the same files."""
    (folder / FOLDER).mkdir(parents=True, exist_ok=True)
    name = hashlib.sha256(" ".join(sorted(one.files.values())).encode()).hexdigest()[:40]
    return FileLock(folder / FOLDER / f".{name}.lock")
