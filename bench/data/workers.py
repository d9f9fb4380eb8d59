"""Processes that read images, in order. One that dies is named, and the image that it was reading is tried alone."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info

from axiom_bench.errors import BenchError

CHUNK = 16  # images that travel together from a worker: shared memory holds a few chunks for each worker
MAX_DEATHS = 3  # in a row, of processes that read no image that kills another
SIGCHLD = getattr(signal, "SIGCHLD", None)  # Windows has none
DEADLY = "ends the process that reads it"  # begins the message of such a bad image
log = logging.getLogger("axiom_bench.machine")


class Readable(Dataset[Any], ABC):
    """Images by their place, picklable, so that workers may be forked or spawned.

    deadly: the places that kill a process, with why; they are not read.
    """

    deadly: dict[int, str]

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def name(self, place: int) -> str:
        """The image's id."""


class WorkerDied(Exception):
    """ends: what ended each process, by its id. places: of the images that they were reading."""

    def __init__(self, ends: Mapping[int | None, str], places: Sequence[int]) -> None:
        super().__init__(ends, places)
        self.ends, self.places = ends, places

    def __str__(self) -> str:
        return ", ".join(f"process {pid} {end}" for pid, end in self.ends.items())


def chunks(images: Readable, workers: int, pack: Callable[[Any], Any]) -> Iterator[Any]:
    """pack([image, ...]) of CHUNK images after another, whatever happens to the processes that read them.

    workers: how many processes; 0: this one, which nothing protects. An image that kills a process, and another one
    that reads it alone, is put into `images.deadly`. Raises BenchError where processes die again and again without one.
    """
    if workers == 0:
        yield from DataLoader(images, batch_size=CHUNK, collate_fn=pack)
        return
    done = deaths = 0
    while done < len(images):
        try:
            for chunk in _read(images, range(done, len(images)), workers, pack):
                yield chunk
                done, deaths = done + CHUNK, 0
        except WorkerDied as error:
            death = error
        else:
            return
        is_explained = sum(_is_deadly(images, place, pack) for place in death.places) > 0
        deaths = 0 if is_explained else deaths + 1
        if deaths == MAX_DEATHS:
            raise BenchError(
                f"Processes that read images died {deaths} times in a row, the last: {death}, and no image is the "
                "reason; lower data.workers, or free memory (for SIGBUS: of /dev/shm)."
            )
        if not is_explained:
            log.warning("%s; no image is the reason, so new processes go on", death)


def _is_deadly(images: Readable, place: int, pack: Callable[[Any], Any]) -> bool:
    """Whether the image kills a process of its own, too; then that is written down."""
    try:
        list(_read(images, [place], 1, pack))
    except WorkerDied as death:
        images.deadly[place] = f"{DEADLY}: {death}"
        ends = " and ".join(dict.fromkeys(death.ends.values()))
        log.warning("bad image %s: the process that read it %s, as did another", images.name(place), ends)
        return True
    return False


def _read(images: Readable, places: Sequence[int], workers: int, pack: Callable[[Any], Any]) -> Iterator[Any]:
    """Raises WorkerDied in place of a chunk."""
    reading = torch.zeros(workers, 2, dtype=torch.int64).share_memory_()
    context, outside = _Context(), SIGCHLD and signal.getsignal(SIGCHLD)
    loader = DataLoader(
        _Watched(images, reading),
        CHUNK,
        sampler=places,
        num_workers=min(workers, len(places)),
        collate_fn=pack,
        multiprocessing_context=context,
    )
    iterator = None
    try:
        for _ in range(len(loader)):
            try:
                iterator = iterator or _started(loader, outside)
                with _raising(context.processes, outside):
                    chunk = next(iterator)
            except (RuntimeError, ConnectionError, EOFError):  # what torch raises for a worker that is gone
                dead = [process for process in context.processes if not process.is_alive()]
                if not dead:
                    raise
            else:
                yield chunk
                continue
            ends = {process.pid: _end(process) for process in dead}
            raise WorkerDied(ends, [place for pid, place in reading.tolist() if pid in ends])
    finally:
        del iterator  # ends the processes, unless a cycle of frames holds it until garbage is collected
        for process in context.processes:
            if process.pid is not None:
                process.kill()
                process.join()


def _started(loader: DataLoader[Any], outside: Any) -> Iterator[Any]:
    """Its processes, without torch's handler, which would raise for a dead one in whatever code runs then."""
    try:
        return iter(loader)
    finally:
        _handle(outside)


class _Context(BaseContext):
    """Starts processes as Python's own context does, and keeps them: one that has ended is no active child any more."""

    def __init__(self) -> None:
        self.processes: list[BaseProcess] = []

    def get_context(self, method: Any = None) -> Any:
        return multiprocessing.get_context(method)

    def Process(self, *args: Any, **options: Any) -> BaseProcess:
        self.processes.append(process := multiprocessing.get_context().Process(*args, **options))
        return process


class _Watched(Dataset[Any]):
    """The images; each worker writes down its process and the place that it reads: (workers, 2)."""

    def __init__(self, images: Readable, reading: torch.Tensor) -> None:
        self.images, self.reading = images, reading

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, place: int) -> Any:
        worker = get_worker_info()
        if worker is not None:
            self.reading[worker.id] = torch.tensor([os.getpid(), place])
        return self.images[place]


@contextmanager
def _raising(processes: Sequence[BaseProcess], outside: Any) -> Iterator[None]:
    """Raises RuntimeError as soon as one of the processes has failed; torch looks every five seconds."""

    def check(*_: object) -> None:
        if any(process.exitcode for process in processes):
            raise RuntimeError("a worker has failed")

    check()
    _handle(check)
    try:
        check()
        yield
    finally:
        _handle(outside)


def _handle(handler: Any) -> None:
    """Sets the handler for the end of child processes where Python lets it be set."""
    if SIGCHLD is not None and threading.current_thread() is threading.main_thread():
        signal.signal(SIGCHLD, signal.SIG_DFL if handler is None else handler)


def _end(process: BaseProcess) -> str:
    """What ended a process, in words."""
    code = process.exitcode or 0
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"ended by signal {-code}"
