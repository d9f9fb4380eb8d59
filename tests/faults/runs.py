"""Small runs for tests of faults: forked from this process, waited for, and compared with an
undisturbed run.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from axiom_bench.cli.main import main
from axiom_bench.records import store
from axiom_bench.records.reading import read_manifest, read_records
from axiom_bench.run import shards

PATIENCE = 120.0  # seconds for a run of seconds, on a machine that does other things as well


@dataclass
class Run:
    """A command in its own process and group.

    `log` has a line for each start and end of a shard, and `printed` is the file of its output.
    """

    pid: int
    log: Path
    printed: Path
    code: int | None = None

    def output(self) -> str:
        return self.printed.read_text(errors="replace") if self.printed.exists() else ""

    def poll(self) -> int | None:
        """Return the exit code, -N for signal N, or None while the command runs."""
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.code = os.waitstatus_to_exitcode(status) if pid else None
        return self.code

    def wait(self) -> int | None:
        """Wait until the command ends, and return its exit code."""
        wait_until(lambda: self.poll() is not None)
        return self.code

    def kill(self) -> None:
        """Send SIGKILL to the whole group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.wait()


def start(
    arguments: Sequence[str], log: Path, printed: Path, *prepare: Callable[[], object]
) -> Run:
    """The command, without the seconds that a new interpreter takes. prepare: called in its
    process.
    """
    if pid := os.fork():
        return Run(pid, log, printed)
    code: object = 70
    try:
        os.setpgid(0, 0)
        _take_streams(printed)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        _replace(shards, "compute", partial(_logged, log))
        for change in prepare:
            change()
        sys.argv = ["axiom-bench", *arguments]
        code = main()
    except SystemExit as error:
        code = error.code
    except BaseException:  # noqa: BLE001 - as Python's own end of a process
        sys.excepthook(*sys.exc_info())
        code = 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 1)


def shards_of(log: Path, pid: int | None = None) -> tuple[list[str], list[str]]:
    """The shards that were begun and those that were ended, as often as they were; by one process,
    or by all.
    """
    lines = [line.split() for line in log.read_text().splitlines()] if log.exists() else []
    lines = [words for words in lines if pid is None or words[1:2] == [str(pid)]]
    begun, ended = ([words[2] for words in lines if words[0] == what] for what in ("start", "end"))
    return begun, ended


def _take_streams(printed: Path) -> None:
    descriptor = os.open(printed, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    # What was pytest's, written line by line, since others wait for it.
    sys.stdout, sys.stderr = (
        os.fdopen(number, "w", buffering=1, closefd=False) for number in (1, 2)
    )


def mark(module: Any, name: str, log: Path) -> None:
    """Writes a line as the function of this module is called."""

    def marked(function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        write_line(log, "stage")
        return function(*arguments, **options)

    _replace(module, name, lambda function: partial(marked, function))


def _replace(
    module: Any, name: str, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]
) -> None:
    setattr(module, name, wrap(getattr(module, name)))


def _logged(log: Path, function: Callable[..., Any]) -> Callable[..., Any]:
    def logged(job: Any, shard: Any, key: str, *rest: Any) -> Any:
        write_line(log, "start", os.getpid(), key)
        result = function(job, shard, key, *rest)
        write_line(log, "end", os.getpid(), key)
        return result

    return logged


def write_line(path: Path, *words: object) -> None:
    """Adds a line at once, also where several processes write."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    try:
        os.write(descriptor, (" ".join(map(str, words)) + "\n").encode())
    finally:
        os.close(descriptor)


def group_is_gone(pgid: int) -> bool:
    """Return True if no process of the group is left.

    Processes that are dead but not yet waited for don't count.
    """
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has just ended
            state, _, group = path.read_text().rpartition(")")[2].split()[:3]
            if int(group) == pgid and state != "Z":
                return False
    return True


def wait_until(
    happened: Callable[[], bool], run: Run | None = None, seconds: float = PATIENCE
) -> None:
    """Wait until `happened` returns True or the run has ended. Raise TimeoutError."""
    until = time.monotonic() + seconds
    while not happened() and (run is None or run.poll() is None):
        if time.monotonic() > until:
            raise TimeoutError("what a test waits for doesn't come")
        time.sleep(0.005)


def contents(folder: Path) -> str:
    """A hash of every value of a run: records, curves and values of the whole data set, sorted; not
    of run times.
    """
    manifest = read_manifest(folder)
    rows = read_records(folder, manifest).astype(str).values.tolist()
    for kind in ("curves", "whole_set"):
        rows += [
            list(row.values())
            for name in manifest.files(kind)
            for row in store.read_table(folder / name).to_pylist()
        ]
    return (
        f"{len(rows)} rows, "
        f"{hashlib.sha256('|'.join(sorted(map(repr, rows))).encode()).hexdigest()}"
    )
