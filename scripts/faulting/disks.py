"""Full disks and folders that can't be written: a run ends with a sentence, and the same command goes on later."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from .launcher import Plan
from .runs import RUN, TINY, Process, compare, forked, kept_reference, shards_of
from .trial import Case, Fault, Trial

ARGUMENTS = (*TINY, "data.size=6")
FULL, FORBIDDEN = "the disk is full", ("read-only file system", "permission denied")
NOBODY = 65534


def _full_from_a_write_on(trial: Trial, case: Case) -> None:
    """Every opening for writing, new folder and renaming in the results folder fails, from one of them on."""
    values, before = kept_reference(case.work, ARGUMENTS)
    writes = (before / "log").read_text().count("write ")
    nth = 1 + case.number * writes // case.times
    run = _start(case, Plan(str(case.folder / "log"), full=str(case.folder / "results"), nth=nth))
    _refused(trial, run, (FULL,), f"write {nth} of {writes}")
    _again(trial, case, values)


def _small_disk(trial: Trial, case: Case) -> None:
    """A file system of its own, so small that the run doesn't fit on it; then it grows."""
    values, before = kept_reference(case.work, ARGUMENTS)
    needed = int(subprocess.check_output(["du", "-sk", str(before / "results" / RUN)]).split()[0])
    size = case.random.randint(8, max(9, needed * 3 // 4))
    with _mounted(case.folder / "results", f"size={size}k"):
        _refused(trial, _start(case, Plan(str(case.folder / "log"))), (FULL,), f"{size} of {needed} KiB")
        _mount("-o", "remount,size=64m", str(case.folder / "results"))
        _again(trial, case, values)


def _becomes_read_only(trial: Trial, case: Case) -> None:
    """A file system that can't be written from some moment on, as after a disk error; then it can."""
    values, _ = kept_reference(case.work, ARGUMENTS)
    with _mounted(case.folder / "results", "size=64m"):
        run = _start(case, Plan(str(case.folder / "log")))
        _after_some_shards(case, run, lambda: _read_only(case.folder / "results"))
        _refused(trial, run, FORBIDDEN, "read-only")
        _mount("-o", "remount,rw", str(case.folder / "results"))
        _again(trial, case, values)


def _forbidden(trial: Trial, case: Case) -> None:
    """Folders that this user may not write, from the start or from some moment on; then it may."""
    values, _ = kept_reference(case.work, ARGUMENTS)
    results = case.folder / "results"
    results.mkdir()
    for folder in (case.work, *case.work.parents, case.folder, results):
        if folder.owner() == Path.home().owner():
            with contextlib.suppress(PermissionError):
                folder.chmod(folder.stat().st_mode | 0o011)
    case.folder.chmod(0o777)
    results.chmod(0o555 if case.number % 2 else 0o777)
    run = _start(case, Plan(str(case.folder / "log")), _become_nobody)
    if not case.number % 2:
        _after_some_shards(case, run, lambda: _modes(results, 0o555))
    _refused(trial, run, FORBIDDEN, "no permission")
    _modes(results, 0o777)
    _again(trial, case, values)


def _become_nobody() -> None:
    if os.geteuid() == 0:  # whom no permission stops
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)


def _modes(results: Path, mode: int) -> None:
    for folder in (results, *results.rglob("*")):
        if folder.is_dir():
            folder.chmod(mode)


def _read_only(folder: Path) -> None:
    while subprocess.run(["mount", "-o", "remount,ro", str(folder)], capture_output=True).returncode:
        time.sleep(0.001)  # busy: a file is open for writing


def _after_some_shards(case: Case, run: Process, act: Callable[[], None]) -> None:
    count = case.random.randint(0, 2)
    while run.poll() is None and len(shards_of(case.folder / "log")[1]) < count:
        time.sleep(0.002)
    act()


def _start(case: Case, plan: Plan, change: Callable[[], None] | None = None) -> Process:
    return forked([*ARGUMENTS, f"results={case.folder / 'results'}"], plan, case.folder / "said", change)


def _refused(trial: Trial, run: Process, words: tuple[str, ...], when: str) -> None:
    """The run ends with 2 and the sentence, or it needed no more room."""
    code, said = run.wait(), run.output()
    trial.times += 1
    if code == 0:
        return
    trial.must(code == 2, f"{when}: exit code {code}: {said[-1500:]}")
    trial.must(any(word in said for word in words), f"{when}: what was said doesn't tell why: {said[-1500:]}")
    trial.must("Traceback" not in said, f"{when}: a traceback: {said[-1500:]}")
    trial.words = [f"exit code 2: {' or '.join(words)}"]


def _again(trial: Trial, case: Case, values: str) -> None:
    """The same command ends, and computes what is missing."""
    log = case.folder / "log"
    run = forked([*ARGUMENTS, f"results={case.folder / 'results'}"], Plan(str(log)), case.folder / "said-again")
    trial.must(run.wait() == 0, f"the same command again: exit code {run.code}: {run.output()[-1500:]}")
    begun, _ = shards_of(log)
    trial.repeated = len(begun) - len(set(begun))
    trial.must(trial.repeated <= 1, f"{trial.repeated} shards were begun in vain")
    compare(trial, case.folder / "results" / RUN, values)


@contextlib.contextmanager
def _mounted(folder: Path, options: str) -> Iterator[None]:
    folder.mkdir()
    _mount("-t", "tmpfs", "-o", options, "tmpfs", str(folder))
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, capture_output=True)


def _may_mount() -> bool:
    return os.name == "posix" and os.geteuid() == 0 and subprocess.run(
        ["unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True, check=False
    ).returncode == 0  # fmt: skip


FAULTS = (
    Fault("disk full from a write on, each of them", _full_from_a_write_on, 180),
    *(
        (
            Fault("a disk too small, which then grows", _small_disk, 12),
            Fault("a disk that becomes read-only", _becomes_read_only, 6),
        )
        if _may_mount()
        else ()
    ),
    Fault("folders that may not be written", _forbidden, 6),
)
