"""Small runs to let faults befall: forked from this process, waited for, and compared with an undisturbed one."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from axiom_bench.cli.main import main
from axiom_bench.data.drawn.scenes import Scenes
from axiom_bench.records import manifest, store
from axiom_bench.records.reading import read_records
from axiom_bench.run import compute

RUN = Path("quick", "default")  # below the results folder
TINY = (
    *("model=scenes_vgg", "data.batch_size=4", "shard_size=2", "data.workers=2", "device=cpu", "runtime.repeats=1"),
    *("method=[grad_cam,xgrad_cam]", "metric=[sensitivity_error,confidence_drop,max_box_acc,zeta]"),
    *("runtime.batch_size=2", "pictures.rows=1", "pictures.gallery=1", "report.figures.formats=[png]"),
)
IMAGES = 24
PATIENCE = 300.0  # seconds for a run of seconds, on a machine that does other things as well
Prepare = Callable[[], object]


@dataclass
class Run:
    """A command in a process and a group of its own. folder: its results. log: a line for each start and end of a
    shard. output: what it printed."""

    pid: int
    folder: Path
    code: int | None = None

    @property
    def log(self) -> Path:
        return log_of(self.folder)

    @property
    def output(self) -> str:
        return output_of(self.folder, self.pid).read_text(errors="replace")

    def poll(self) -> int | None:
        """The exit code, -N for signal N; None while it runs."""
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.code = os.waitstatus_to_exitcode(status) if pid else None
        return self.code

    def wait(self) -> int | None:
        """The exit code, once it has ended."""
        wait_until(lambda: self.poll() is not None)
        return self.code

    def kill(self) -> None:
        """SIGKILL for the whole group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.wait()

    def shards(self, of_this_process: bool = False) -> tuple[list[str], list[str]]:
        """The shards that were begun and those that were ended, as often as they were."""
        lines = [line.split() for line in self.log.read_text().splitlines()] if self.log.exists() else []
        lines = [words for words in lines if not of_this_process or words[1:2] == [str(self.pid)]]
        begun, ended = ([words[2] for words in lines if words[0] == what] for what in ("start", "end"))
        return begun, ended


def log_of(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.log")


def output_of(folder: Path, pid: int) -> Path:
    return folder.with_name(f"{folder.name}.{pid}.txt")


def start(arguments: tuple[str, ...], folder: Path, *prepare: Prepare) -> Run:
    """The command, without the seconds that a new interpreter takes. prepare: called in its process."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    if pid := os.fork():
        output_of(folder, pid).touch()
        return Run(pid, folder)
    code: object = 70
    try:
        with contextlib.suppress(PermissionError):  # a terminal's process leads its group already
            os.setpgid(0, 0)
        _take_streams(output_of(folder, os.getpid()))
        for name, handler in (("SIGINT", signal.default_int_handler), ("SIGTERM", signal.SIG_DFL),
                              ("SIGHUP", signal.SIG_DFL)):  # fmt: skip
            signal.signal(getattr(signal, name), handler)
        _replace(compute, "compute", partial(_logged, log_of(folder)))
        for change in prepare:
            change()
        sys.argv = ["axiom-bench", *arguments, f"results={folder}"]
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


def _take_streams(output: Path) -> None:
    descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
    sys.__stdout__, sys.__stderr__ = sys.stdout, sys.stderr


def mark(module: Any, name: str, log: Path) -> None:
    """Writes a line as the function of this module is called."""

    def marked(function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        write_line(log, "stage")
        return function(*arguments, **options)

    _replace(module, name, lambda function: partial(marked, function))


def _replace(module: Any, name: str, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    setattr(module, name, wrap(getattr(module, name)))


def _logged(log: Path, function: Callable[..., Any]) -> Callable[..., Any]:
    def logged(job: Any, cut_model: Any, task: Any, *rest: Any) -> Any:
        write_line(log, "start", os.getpid(), task.key)
        result = function(job, cut_model, task, *rest)
        write_line(log, "end", os.getpid(), task.key)
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
    """Whether no process of the group is left; those that are dead and not yet waited for don't count."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has just ended
            state, _, group = path.read_text().rpartition(")")[2].split()[:3]
            if int(group) == pgid and state != "Z":
                return False
    return True


def wait_until(happened: Callable[[], bool]) -> None:
    """Raises TimeoutError where it doesn't."""
    until = time.monotonic() + PATIENCE
    while not happened():
        if time.monotonic() > until:
            raise TimeoutError("what a test waits for doesn't come")
        time.sleep(0.005)


def contents(folder: Path) -> str:
    """A hash of every value of a run: records, curves and values of the whole data set, sorted; not of run times."""
    read = manifest.read(folder)
    rows = read_records(folder, read).astype(str).values.tolist()
    for kind in ("curves", "whole_set"):
        rows += [list(row.values()) for name in read[kind] for row in store.read_table(folder / name).to_pylist()]
    return f"{len(rows)} rows, {hashlib.sha256('|'.join(sorted(map(repr, rows))).encode()).hexdigest()}"


def write_photographs(folder: Path) -> None:
    """Image files, <class>/<image>.png: some of the embedded scenes, which the embedded networks know."""
    scenes = Scenes(size=IMAGES)
    for name in range(10):
        (folder / str(name)).mkdir(parents=True)
    for index in range(IMAGES):
        sample = scenes.read(index)
        sample.image.save(folder / str(sample.label) / f"{index}.png")


def copy_run(run: Run, folder: Path) -> Path:
    """A copy of a run's folder under other results."""
    return Path(shutil.copytree(run.folder / RUN, folder / RUN))
