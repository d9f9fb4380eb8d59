"""Processes that draw a share of a report's figures each: drawing takes most of a report's time, on one core.

Imports nothing that draws, so that they start while this process still imports it. As a command, such a process:
`python -m axiom_bench.report.processes INDEX COUNT`, which is sent what was read of the run.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from threading import Thread

from axiom_bench.environment import num_cores
from axiom_bench.statistics.run_folder import RunFolder

MAX_PROCESSES = 4
MIN_METRICS = 12  # of a run whose figures repay the start of another process
Process = subprocess.Popen[bytes]


@contextmanager
def drawing_processes(run: RunFolder) -> Iterator[Sequence[Process]]:
    """Processes that each draw a share of the run's figures meanwhile; none for a small report, or on one core.

    Each is sent what was read of the run. Those that still run when the block ends are stopped; they stop by themselves
    where this process is killed.
    """
    count = min(MAX_PROCESSES, num_cores()) if len(run.metrics) >= MIN_METRICS else 1
    processes = [_start(index, count) for index in range(1, count)]
    # Without what this process computes of it meanwhile.
    sent = replace(run, path=run.path.resolve(), records=replace(run.records), class_records=replace(run.class_records))
    threads = [Thread(target=_send, args=(sent, process), daemon=True) for process in processes]
    for thread in threads:
        thread.start()
    try:
        yield processes
    finally:
        for process, thread in zip(processes, threads, strict=True):
            process.kill()
            process.wait()
            thread.join()
            if process.stdin is not None:
                with suppress(OSError):  # it has ended without reading all
                    process.stdin.close()


def _send(run: RunFolder, process: Process) -> None:
    """Where a process ends early its share is drawn by this one: see `figures.save_figures`."""
    if process.stdin is not None:
        with suppress(OSError):
            pickle.dump(run, process.stdin, protocol=5)
            process.stdin.flush()


def _start(index: int, count: int) -> Process:
    # -P keeps modules of the folder that the user works in from hiding a library's.
    command = [sys.executable, "-P", "-m", "axiom_bench.report.processes", str(index), str(count)]
    quiet = subprocess.DEVNULL
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=quiet, stderr=quiet)


def _end_with_the_input() -> None:
    """However the process that started this one ends, nothing is left that draws."""
    os.read(0, 1)  # no byte ever comes; sys.stdin's lock would be in the way at the interpreter's own end
    os._exit(1)


if __name__ == "__main__":
    from axiom_bench.report.charts.figures import save_share  # imports what draws, which takes a second

    sent = pickle.load(sys.stdin.buffer)
    Thread(target=_end_with_the_input, daemon=True).start()
    save_share(sent, int(sys.argv[1]), int(sys.argv[2]))
