"""The report of a run: tables, statistics, figures and one page, from manifest and records alone.

Imports records, columns and errors; never torch, and no code that a run folder names.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

from axiom_bench.environment import num_cores
from axiom_bench.errors import BenchError
from axiom_bench.report import stamp

if TYPE_CHECKING:
    from axiom_bench.statistics.paired_tests import compare
    from axiom_bench.statistics.run_folder import RunFolder

__all__ = ["compare", "headline", "write"]
MAX_PROCESSES = 4
MIN_METRICS = 12  # of a run whose figures repay the start of another process
DRAW = "from axiom_bench.report import draw_share; draw_share()"  # the code of another process
Process = subprocess.Popen[bytes]


def write(
    run: RunFolder | Path,
    settings: Mapping[str, Any] | None = None,
    reload: int | None = None,
    tell: Callable[[str], None] = lambda step: None,
) -> Path:
    """Write tables/, figures/ and report.html into a run folder; the path of report.html.

    run: the folder, or what was read from it already. settings: of a folder, `report.*` over those of the run, as
    {"headline": ["box_iou"], "figures": {"grid": None}}. reload: of a folder, the seconds after which the page loads
    itself again. tell: is told what is made next. A report of the same records, settings and code that is there
    undamaged is left as it is; else it is written anew, and the same records give the same bytes. The index of all runs
    beside it is written in any case.
    Raises BenchError where the run can't be read or the folder can't be written.
    """
    from axiom_bench.records import claims, reading
    from axiom_bench.report import index
    from axiom_bench.report.options import with_settings

    if not isinstance(run, Path):
        folder, manifest = run.path, run.manifest
    else:
        folder, manifest = run, with_settings(reading.read_manifest(run), settings, reload)
    inputs = stamp.inputs(folder, manifest)
    try:
        if not stamp.is_current(folder, inputs):
            with claims.reporting(folder):
                if not stamp.is_current(folder, inputs):  # another process may have written it meanwhile
                    _write(run, settings, reload, inputs, tell)
        index.update(folder, manifest)
    except FileNotFoundError as error:
        if not Path(error.filename or "").is_relative_to(folder):
            raise
        raise BenchError(f"{error.filename} was removed while the report was written; write it again.") from error
    return folder / stamp.PAGE


def _write(
    run: RunFolder | Path,
    settings: Mapping[str, Any] | None,
    reload: int | None,
    inputs: str,
    tell: Callable[[str], None],
) -> None:
    from axiom_bench.report.options import options_of, read_run
    from axiom_bench.statistics.ranking import conclusion

    start = time.perf_counter()
    read = read_run(run, settings, reload) if isinstance(run, Path) else run
    before = stamp.begin(read.path)
    with drawing_processes(read) as processes:
        from axiom_bench.report.tables import result_lines
        from axiom_bench.report.writing import write_report  # imports matplotlib, as the processes do meanwhile

        write_report(read, processes, tell)
        tell("headline")
    shown = {"headline": result_lines(read), "conclusion": conclusion(read, options_of(read).headline)[0]}
    stamp.write(read.path, inputs, shown, before, time.perf_counter() - start)


def headline(run: RunFolder | Path) -> list[str]:
    """The run's main results in 80 columns, see `tables.result_lines`.

    run: the folder, or what was read from it already. Raises BenchError where the run can't be read.
    """
    from axiom_bench.records import reading

    folder, manifest = (run, reading.read_manifest(run)) if isinstance(run, Path) else (run.path, run.manifest)
    stored = stamp.headline(folder, stamp.inputs(folder, manifest))
    if stored is not None:
        return stored
    from axiom_bench.report.tables import result_lines
    from axiom_bench.statistics.run_folder import RunFolder

    return result_lines(RunFolder.read(run) if isinstance(run, Path) else run)


@contextmanager
def drawing_processes(run: RunFolder) -> Iterator[Sequence[Process]]:
    """Processes that each draw a share of the run's figures, which takes most of a report's time on one core; none for
    a small report, or on one core.

    They start while this process still imports what draws. Each is sent what was read of the run. Those that still run
    when the block ends are stopped; they stop by themselves where this process is killed.
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


def _start(index: int, count: int) -> Process:
    # -P keeps modules of the folder that the user works in from hiding a library's.
    command = [sys.executable, "-P", "-c", DRAW, str(index), str(count)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _send(run: RunFolder, process: Process) -> None:
    """Where a process ends early its share is drawn by this one: see `writing.save_figures`."""
    if process.stdin is not None:
        with suppress(OSError):
            pickle.dump(run, process.stdin, protocol=5)
            process.stdin.flush()


def draw_share() -> None:
    """The process of `drawing_processes`, which reads a run and has INDEX and COUNT as arguments."""
    from axiom_bench.report.writing import save_share  # imports what draws, which takes a second

    sent = pickle.load(sys.stdin.buffer)
    Thread(target=_end_with_the_input, daemon=True).start()
    save_share(sent, int(sys.argv[1]), int(sys.argv[2]))


def _end_with_the_input() -> None:
    """However the process that started this one ends, nothing is left that draws."""
    os.read(0, 1)  # no byte ever comes; sys.stdin's lock would be in the way at the interpreter's own end
    os._exit(1)


def __getattr__(name: str) -> Any:
    if name == "compare":
        from axiom_bench.statistics.paired_tests import compare

        return compare
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
