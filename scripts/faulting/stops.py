"""Ctrl-C, SIGTERM and SIGHUP at every stage of a run, with and without a terminal, and where they are ignored."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from axiom_bench.cli.stopping import LINE
from axiom_bench.records.claims import shard_lock

from .launcher import STAGES, Plan
from .runs import RUN, TINY, Process, compare, forked, fresh, group_is_gone, kept_reference, photographs, wait_until
from .trial import Case, Fault, Trial

LIMIT = 2.0  # seconds within which a command is gone
WITHIN = 0.5  # seconds after the begin of a stage in which the signal comes
STARTING, WAITING, DRAWING = "starting", "waiting for another's shard", "drawing the report"
TERMINAL = ", at a terminal"
EXIT_CODES = {"SIGINT": 130, "SIGTERM": 143, "SIGHUP": 129}


def _attempt(trial: Trial, case: Case, stage: str, terminal: bool = False, ignored: str = "") -> None:
    """A signal at random within the stage, then the same command again. ignored: a signal that the run inherits as
    ignored, and gets before SIGTERM."""
    own = _arguments(case, stage)
    values, before = kept_reference(case.work, own)
    if stage == DRAWING:
        shutil.copytree(before / "results" / RUN, case.folder / RUN)
        (case.folder / RUN / "report_stamp.json").unlink()
    held = _held(case, before) if stage == WAITING else contextlib.nullcontext()
    with held, _begun(case, own, stage, terminal, ignored) as (process, typed):
        reached = wait_until(lambda: _has_reached(case, stage, process), process)
        trial.must(reached, f"the run ended before {stage}: {process.output()[-1000:]}")
        time.sleep(case.random.uniform(0.1, 3.0 if stage == STARTING else WITHIN))
        if process.poll() is None:  # else the stage was shorter than that
            _stop(trial, process, ("SIGINT", "SIGTERM")[case.number % 2], typed, ignored)
    if trial.times:
        _check_words(trial, process)
    again = forked([*own, f"results={case.folder}"], Plan(str(case.folder / "log")), case.folder / "said-again")
    trial.must(again.wait() == 0, f"the same command again: exit code {again.code}: {again.output()[-1000:]}")
    compare(trial, case.folder / RUN, values)


def _arguments(case: Case, stage: str) -> list[str]:
    """Of a run of image files; where the report is drawn, with so many metrics that other processes draw as well."""
    data = ["data=folder", f"data.root={photographs(case.work)}", "data.classes=null"]
    tiny = [word for word in TINY if stage != DRAWING or not word.startswith("metric=")]
    return [*tiny, *data, "data.size=8"]


@contextlib.contextmanager
def _held(case: Case, before: Path) -> Iterator[None]:
    """One of the run's shards is computed by another process, which is this one."""
    key = min((before / "results" / RUN / "records").glob("*.parquet")).name.partition("-")[0]
    with shard_lock(key, case.folder / RUN):
        yield


@contextlib.contextmanager
def _begun(
    case: Case, arguments: list[str], stage: str, terminal: bool, ignored: str
) -> Iterator[tuple[Process, int | None]]:
    """A run, and the terminal to type at."""
    plan, said = Plan(str(case.folder / "log"), stage), case.folder / "said"
    run = [*arguments, f"results={case.folder}"]
    if not terminal:
        yield fresh(run, plan, said, preexec_fn=partial(_inherit, ignored)), None
        return
    typed, shown = os.openpty()
    streams = {"stdin": shown, "stdout": shown, "stderr": shown, "start_new_session": False}
    process = fresh(run, plan, said, preexec_fn=partial(_inherit, ignored, shown), **streams)
    os.close(shown)
    reading = threading.Thread(target=_copy, args=(typed, said), daemon=True)
    reading.start()
    yield process, typed
    reading.join(timeout=10)
    os.close(typed)


def _inherit(ignored: str, terminal: int | None = None) -> None:
    """What a new process has of the one that started it; this script itself may run in the background, or by nohup."""
    if terminal is not None:
        os.login_tty(terminal)
    for name in EXIT_CODES:
        signal.signal(getattr(signal, name), signal.SIG_IGN if name == ignored else signal.SIG_DFL)


def _copy(terminal: int, said: Path) -> None:
    with said.open("ab", buffering=0) as file, contextlib.suppress(OSError):  # EIO: the last process is gone
        while part := os.read(terminal, 4096):
            file.write(part)


def _has_reached(case: Case, stage: str, process: Process) -> bool:
    if stage == WAITING:
        return "waiting for" in process.output()
    log = case.folder / "log"
    return log.exists() and "stage" in log.read_text()


def _stop(trial: Trial, process: Process, name: str, typed: int | None, ignored: str) -> None:
    """Sends the signal as a person or a system does, and checks how the run ends."""
    if ignored:
        os.killpg(process.pid, getattr(signal, ignored))
        time.sleep(WITHIN)
        trial.must(process.poll() in (None, 0), f"{ignored} ended a run that had inherited it as ignored")
        if process.poll() is not None:
            return
        name = "SIGTERM"
    start = time.monotonic()
    if typed is not None and name == "SIGINT":
        os.write(typed, b"\x03")
    else:
        os.kill(process.pid, getattr(signal, name))
    process.wait()
    wait_until(lambda: group_is_gone(process.pid))
    trial.took(time.monotonic() - start, LIMIT)
    trial.times += 1
    trial.must(process.code == EXIT_CODES[name], f"{name}: exit code {process.code}")
    trial.words = [f"one line, exit code {EXIT_CODES[name]}"]


def _check_words(trial: Trial, process: Process) -> None:
    said = process.output()
    trial.must(said.count(LINE) == 1, f"the line stands {said.count(LINE)} times in what was said: {said[-1000:]}")
    for word in ("Traceback", "Exception ignored", "KeyboardInterrupt"):
        trial.must(word not in said, f"more than a line was said: {said[-1500:]}")


FAULTS = (
    *(
        Fault(f"Ctrl-C or SIGTERM, {stage}{TERMINAL * terminal}", partial(_attempt, stage=stage, terminal=terminal), 2)
        for terminal in (False, True)
        for stage in (STARTING, *STAGES, WAITING)
    ),
    Fault("SIGINT ignored, then SIGTERM", partial(_attempt, stage="computing", ignored="SIGINT"), 2),
    Fault("SIGHUP ignored (nohup), then SIGTERM", partial(_attempt, stage="computing", ignored="SIGHUP"), 2),
)
