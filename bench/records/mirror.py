"""A run in a store of objects, and the folder here with the same files: what is missing is fetched, what is new sent. A
put is atomic, and records have names that no other file ever has. Nothing is deleted in the
store but the lock, and what was computed beside a plug-in that is refused.

One command at a time computes into a run: the object LOCK says which, and is written anew every BEAT seconds. One that
is older than LEASE seconds is stale. No value depends on it."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path, PurePosixPath

from axiom_bench.errors import BenchError
from axiom_bench.records import artefacts, files, record_files, remote, running
from axiom_bench.records.remote import Objects

LOCK, BEAT, LEASE = "lock.json", 10.0, 60.0
AT_ONCE = 16  # files that are fetched together, and in memory
State = tuple[int, int]


@dataclass(frozen=True)
class Mirror:
    """same: the files that are the same there and here, by their size and time of modification here."""

    folder: Path
    objects: Objects
    same: dict[str, State | None] = field(default_factory=dict)

    def pull(self) -> Collection[str]:
        """Fetches what a reader of the run, or one that goes on with it, needs and isn't here: the names of what is
        there. Raises BenchError where the store or the folder doesn't allow it."""
        there = {name: size for name, size in self.objects.sizes().items() if _is_fetched(name)}
        missing = [name for name, size in there.items() if not self._is_here(name, size)]
        for start in range(0, len(missing), AT_ONCE):
            for name, content in self.objects.read_all(missing[start : start + AT_ONCE]).items():
                path = self.folder / name
                try:
                    files.replace(path, content, sync=False)  # after a power cut its size or its checksum tells
                except OSError as error:
                    raise files.unwritable(path.parent, error) from error
                self.same[name] = _state(path)
        return there

    def push(self) -> None:
        """Sends what is new here. Raises BenchError where the store refuses."""
        for name in sorted(self._here(), key=_order):
            path = self.folder / name
            state = _state(path)
            if state is not None and self.same.get(name) != state:
                try:
                    self.objects.write(name, path.read_bytes())
                except BenchError as error:
                    kept = f"What is made is kept in {self.folder}: the same command sends it."
                    raise BenchError(f"{error} {kept}") from error
                self.same[name] = state

    def _is_here(self, name: str, size: int) -> bool:
        """Whether a file need not be fetched: it was before, or its name tells."""
        state = _state(self.folder / name)
        is_unique = name.partition("/")[0] in artefacts.in_store("shard", "once")
        if state is None or name == artefacts.NAME or not (name in self.same or (is_unique and state[0] == size)):
            return False
        self.same.setdefault(name, state)
        return True

    def _here(self) -> Iterator[str]:
        """The files of the run here, but for locks, notes and drafts, whose names begin with a dot."""
        for place, folders, names in os.walk(self.folder):
            folders[:] = filter(_is_shared, folders)
            for name in filter(_is_shared, names):
                yield Path(place, name).relative_to(self.folder).as_posix()


def of(folder: Path) -> Mirror | None:
    """The mirror that a folder is, the same throughout a process; None for an ordinary folder. Raises BenchError where
    there is no such kind of store, or its package isn't installed."""
    url = remote.url_of(folder)
    return None if url is None else _mirror(url, os.getpid())


def pull(folder: Path) -> None:
    """Fetches what isn't here, where the folder is a mirror. Raises BenchError."""
    if (mirror := of(folder)) is not None:
        mirror.pull()


def push(folder: Path) -> None:
    """Sends what is new, where the folder is a mirror. Raises BenchError."""
    if (mirror := of(folder)) is not None:
        mirror.push()


def remove(folder: Path, names: Sequence[str]) -> None:
    """Deletes record files with their curves, also in the store where the folder is a mirror. Raises BenchError."""
    record_files.remove(folder, names)
    if (mirror := of(folder)) is not None:
        for name in names:
            mirror.objects.remove(name)
            mirror.objects.remove(record_files.curve_file(name))


def fetched(text: str) -> Path:
    """The folder of a run to read, by its path or its URL. Raises BenchError where an URL has no run."""
    folder = remote.folder_of(text)
    if (mirror := of(folder)) is not None:
        if artefacts.NAME not in mirror.pull():
            raise BenchError(
                f"There is no finished run in {text}: it has no {artefacts.NAME}; give RESULTS/experiment/run."
            )
        if not running.in_use(folder):
            running.end(folder)  # of a command that was killed here: another may have ended its run elsewhere
    return folder


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """One command at a time computes into a folder; of a mirror, into what it mirrors. Raises BenchError, also where
    another machine computes into the same run."""
    mirror = of(folder)
    with running.held(folder), nullcontext() if mirror is None else _locked(mirror.objects):
        yield


@contextmanager
def _locked(objects: Objects) -> Iterator[None]:
    """Writes the lock again and again until the end."""
    if holder := _holder(objects.read(LOCK)):
        raise BenchError(
            f"{objects.url} is in use: {holder} computes into it. Wait until that has ended; {LEASE:.0f} seconds after "
            "it was killed the same command goes on."
        )
    ended = threading.Event()

    def write() -> None:
        objects.write(LOCK, json.dumps({**files.process(), "time": time.time()}).encode())

    def beat() -> None:
        while not ended.wait(BEAT):
            with suppress(BenchError):  # perhaps the next one arrives; if none does, sending what is computed says why
                write()

    write()
    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        with suppress(BenchError):  # then it is stale soon
            objects.remove(LOCK)


def _holder(content: bytes | None) -> str | None:
    """Who holds a lock of this content; None where nobody does, or a process of this machine that is gone."""
    with suppress(ValueError, KeyError, TypeError):
        about = json.loads(content or b"{}")
        number, is_here = int(about["process"]), about["place"] == files.place()
        is_over = time.time() - float(about["time"]) > LEASE or (is_here and not files.is_alive(number))
        return None if is_over else f"process {number} on {about['host']}"
    return None


@cache
def _mirror(url: str, process: int) -> Mirror:
    return Mirror(remote.folder_of(url), remote.opened(url, process))


def _is_fetched(name: str) -> bool:
    """Whether an object is read here; never one whose name leads out of its folder."""
    parts, places = PurePosixPath(name).parts, artefacts.in_store("shard", "once", "fetched")
    is_of_folder = len(parts) == 2 and parts[0] in places and _is_shared(parts[1])
    return name in places or (is_of_folder and name.isprintable())


def _is_shared(name: str) -> bool:
    return not name.startswith(".") and name not in artefacts.in_store("here")


def _order(name: str) -> tuple[int, str]:
    """A record file says that its curves are there, and a manifest that all of its files are."""
    return (name.startswith("records/") + 2 * (name == artefacts.NAME), name)


def _state(path: Path) -> State | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_size, stat.st_mtime_ns
