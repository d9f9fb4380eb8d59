"""Processes of this machine, one for each GPU or a number: each a pool of Python's own, made anew if killed."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Annotated, Any

from axiom_bench.errors import BenchError
from axiom_bench.kinds import whole
from axiom_bench.run.executors import Executor, remote

VISIBLE, THREADS = "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS"
ATTEMPTS = 3  # of a task whose process was killed


@contextmanager
def processes(count: Annotated[int, whole(1, "a number of processes")] | None = None) -> Iterator[Executor]:
    """count: None: one for each GPU that this process sees. Raises BenchError where there is none."""
    part = os.environ.get(THREADS) or str(max(1, (os.cpu_count() or 1) // (count or 1)))
    executor = Processes([(VISIBLE, gpu) for gpu in gpus()] if count is None else [(THREADS, part)] * count)
    try:
        yield executor
    finally:
        executor.threads.shutdown(wait=False, cancel_futures=True)
        for process in multiprocessing.active_children():
            process.kill()


class Processes:
    """variables: of the environment, (name, value) of each process."""

    def __init__(self, variables: list[tuple[str, str]]) -> None:
        self.threads, self.free = ThreadPoolExecutor(len(variables)), SimpleQueue[Any]()
        for variable in variables:
            self.free.put((variable, _started(variable)))

    def submit(self, function: Callable[..., Any], /, *arguments: Any) -> Future[Any]:
        """See `Executor`. A thread for each process waits for it."""
        return self.threads.submit(self.done, remote(function, arguments))

    def done(self, call: tuple[Any, ...]) -> Any:
        """What a call of `remote` returns, by the next process that is free."""
        variable, pool = self.free.get()
        try:
            for _ in range(ATTEMPTS):
                try:
                    return pool.submit(*call).result()
                except BrokenProcessPool:
                    pool = _started(variable)
            raise BenchError(
                f"A task's process was killed {ATTEMPTS} times, as for want of memory; start fewer processes."
            )
        finally:
            self.free.put((variable, pool))


def _started(variable: tuple[str, str]) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), _begin, variable)


def _begin(variable: str, value: str) -> None:
    """In a new process, before torch is imported. It ends with the command, which alone answers Ctrl-C."""
    os.environ[variable] = value
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_command, daemon=True).start()


def _end_with_command() -> None:
    if (command := multiprocessing.parent_process()) is not None:
        command.join()
        os._exit(1)


def gpus() -> list[str]:
    """The names of the GPUs that this process sees. Raises BenchError where there is none."""
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not count:
        raise BenchError("executor=processes has one process for each GPU, and there is none; set executor.count=N.")
    visible = os.environ.get(VISIBLE)
    names = visible.split(",") if visible else [str(number) for number in range(count)]
    return [name.strip() for name in names[:count]]
