"""Processes that draw a share of a report's figures each: drawing takes most of a report's time, on one core.

Imports nothing that draws, so that they start while this process still imports it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from axiom_bench.records import running
from axiom_bench.report.cores import num_cores
from axiom_bench.report.run_folder import RunFolder

MAX_PROCESSES = 4
MIN_METRICS = 12  # of a run whose figures repay the start of another process
Process = subprocess.Popen[bytes]


@contextmanager
def drawing_processes(run: RunFolder) -> Iterator[Sequence[Process]]:
    """Processes that each draw a share of the run's figures meanwhile; none for a small report, on one core, or while
    the run goes on, or another on its folder: they would read other records than this process has.

    Those that still run when the block ends are stopped; they stop by themselves where this process is killed.
    """
    is_large = len(run.metrics) >= MIN_METRICS and not running.goes_on(run.path)
    count = min(MAX_PROCESSES, num_cores()) if is_large else 1
    processes = [_start(run, index, count) for index in range(1, count)]
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.wait()
            if process.stdin is not None:
                process.stdin.close()


def _start(run: RunFolder, index: int, count: int) -> Process:
    arguments = [str(run.path.resolve()), str(index), str(count), json.dumps(run.report_settings)]
    # -P keeps modules of the folder that the user works in from hiding a library's.
    command = [sys.executable, "-P", "-m", "axiom_bench.report.figures", *arguments]
    quiet = subprocess.DEVNULL
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=quiet, stderr=quiet)
