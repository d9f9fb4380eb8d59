"""Processes of this machine: one per GPU, or a given number.

Each of them is one of Python's process pools with a single process. If the process is killed, a new
pool replaces it, since Python's pool is unusable then.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.context import SpawnContext, SpawnProcess
from queue import SimpleQueue
from typing import Annotated, Any

from axiom_bench.errors import BenchError
from axiom_bench.kinds import whole_number
from axiom_bench.run.executors import Call, Executor, remote

VISIBLE = "CUDA_VISIBLE_DEVICES"
THREADS = "OMP_NUM_THREADS"
ATTEMPTS = 3  # a task whose process is killed runs at most so many times


@contextmanager
def processes(
    count: Annotated[int, whole_number(1, "a number of processes")] | None = None,
) -> Iterator[Executor]:
    """Start processes on this machine.

    Args:
        count: The number of processes; None: one per GPU that this process sees.

    Raises:
        BenchError: If `count` is None and there is no GPU.
    """
    if count is None:
        variables = [(VISIBLE, gpu) for gpu in gpus()]
    else:
        threads = os.environ.get(THREADS) or str(max(1, (os.cpu_count() or 1) // count))
        variables = [(THREADS, threads)] * count
    executor = Processes(variables)
    try:
        yield executor
    finally:
        executor.close()


class Context(SpawnContext):
    """Python's context of spawned processes, with a list of those that it has created.

    A program that calls `run` may have other children, which `close` must leave alone.
    """

    def __init__(self) -> None:
        self.processes: list[SpawnProcess] = []

    def Process(self, *arguments: Any, **settings: Any) -> SpawnProcess:  # type: ignore[override]
        """Create a process, as `multiprocessing.Process` does, and list it."""
        process = SpawnProcess(*arguments, **settings)
        self.processes.append(process)
        return process


class Processes:
    """An executor with one process per environment variable, (name, value)."""

    def __init__(self, variables: list[tuple[str, str]]) -> None:
        self.threads = ThreadPoolExecutor(len(variables))
        self.context = Context()
        self.is_closed = threading.Event()
        # the variable and the pool of each process that has no task
        self.free = SimpleQueue[tuple[tuple[str, str], ProcessPoolExecutor]]()
        for variable in variables:
            self.free.put((variable, self._start(variable)))

    def submit(self, function: Callable[..., object], /, *arguments: object) -> Future[object]:
        """See `Executor`. One thread per process waits for its result."""
        return self.threads.submit(self.done, remote(function, arguments))

    def close(self) -> None:
        """Kill the processes, whose remaining tasks nobody waits for."""
        self.is_closed.set()
        self.threads.shutdown(wait=False, cancel_futures=True)
        self._kill()

    def done(self, call: Call) -> object:
        """Have the next free process run a call of `remote`, and return the result."""
        variable, pool = self.free.get()
        try:
            for _ in range(ATTEMPTS):
                try:
                    result = pool.submit(*call)
                    if self.is_closed.is_set():  # the pool's process may have started after `close`
                        self._kill()
                    return result.result()
                except BrokenProcessPool:
                    if self.is_closed.is_set():  # `close` has killed it: start no other one
                        raise
                    pool = self._start(variable)
            raise BenchError(
                f"A task's process was killed {ATTEMPTS} times, perhaps because memory ran out; "
                "start fewer processes."
            )
        finally:
            self.free.put((variable, pool))

    def _kill(self) -> None:
        """Kill the processes of this executor."""
        for process in multiprocessing.active_children():
            if process in self.context.processes:
                process.kill()

    def _start(self, variable: tuple[str, str]) -> ProcessPoolExecutor:
        """Return a pool with one new process, which has this environment variable."""
        return ProcessPoolExecutor(1, self.context, _begin, variable)


def _begin(variable: str, value: str) -> None:
    """Set up a new process before it imports torch. Only the command reacts to Ctrl-C, and the
    process ends with it.
    """
    os.environ[variable] = value
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_command, daemon=True).start()


def _end_with_command() -> None:
    """Wait for the command to end, then end this process."""
    command = multiprocessing.parent_process()
    if command is not None:
        command.join()
        os._exit(1)


def gpus() -> list[str]:
    """Return the names of the GPUs that this process sees. Raise BenchError if there is none."""
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not count:
        raise BenchError(
            "executor=processes has one process for each GPU, and there is none; set "
            "executor.count=N."
        )
    visible = os.environ.get(VISIBLE)
    names = visible.split(",") if visible else [str(number) for number in range(count)]
    return [name.strip() for name in names[:count]]
