"""Save all figures of a report, shared among processes: drawing takes most of a report's time, on one core."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from axiom_bench.report.figures import all_figures
from axiom_bench.report.figures.drawing import LeftOut
from axiom_bench.report.run_folder import RunFolder

FOLDER = "figures"  # in the run folder
MAX_PROCESSES = 4
MIN_METRICS = 12  # of a run whose figures repay the start of another process
Process = subprocess.Popen[bytes]


@dataclass(frozen=True)
class SavedFigure:
    """A figure whose files are written. png: path of the PNG."""

    name: str
    title: str
    caption: str
    png: Path


@contextmanager
def drawing_processes(run: RunFolder) -> Iterator[Sequence[Process]]:
    """Processes that each draw a share of the run's figures meanwhile; none for a small report, or on one core.

    Those that still run when the block ends are stopped.
    """
    count = min(MAX_PROCESSES, _num_cores()) if len(run.metrics) >= MIN_METRICS else 1
    processes = [_start(run.path.resolve(), index, count) for index in range(1, count)]
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.wait()


def save_figures(run: RunFolder, processes: Sequence[Process] = ()) -> list[SavedFigure | LeftOut]:
    """Write figures/*.png and *.pdf; what was saved or left out, in the order of the report.

    processes: from `drawing_processes`. A share whose process failed is drawn here, so that the cause is raised as it
    is without processes: BenchError where a file of the run can't be read or the folder can't be written.
    """
    count = 1 + len(processes)
    figures = save_share(run, 0, count)
    for index, process in enumerate(processes, start=1):
        if process.wait() != 0:
            save_share(run, index, count)
    return figures


def save_share(run: RunFolder, index: int, count: int) -> list[SavedFigure | LeftOut]:
    """Save every `count`-th figure from `index` on, one at a time; what all shares save or leave out."""
    folder = run.path / FOLDER
    figures: list[SavedFigure | LeftOut] = []
    for place, figure in enumerate(all_figures(run)):
        if isinstance(figure, LeftOut):
            figures.append(figure)
            continue
        if place % count == index:
            figure.save(folder)
        figures.append(SavedFigure(figure.name, figure.title, figure.caption, figure.png_path(folder)))
    return figures


def _start(folder: Path, index: int, count: int) -> Process:
    # -P keeps modules of the folder that the user works in from hiding a library's.
    command = [sys.executable, "-P", "-m", "axiom_bench.report.figures", str(folder), str(index), str(count)]
    quiet = subprocess.DEVNULL
    return subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet)


def _num_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
