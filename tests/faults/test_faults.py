"""Kills, signals, full disks, wrong clocks and deleted folders befall small runs: each ends as docs/reliability.md
promises, and the same command then ends with the records of an undisturbed run.

Moments are random, by a seed; what befalls a run that has ended by then befalls nothing.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest

from axiom_bench import report
from axiom_bench.cli.benchmark import benchmark
from axiom_bench.cli.stopping import LINE
from axiom_bench.records import locks
from axiom_bench.run import job
from axiom_bench.run.computing import compute, samples, whole_set
from tests.faults import runs
from tests.faults.machine import DAY, become_nobody, let_clock_jump, mount, mounted, set_modes
from tests.faults.runs import Run, contents, group_is_gone, mark, shards_of, wait_until, write_line, write_photographs

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="forks, and reads /proc"),
]
RUN = Path("quick", "default")  # below the results folder
TINY = (
    *(
        "run=default",
        "model=scenes_vgg",
        "data.batch_size=4",
        "shard_size=2",
        "data.workers=2",
        "device=cpu",
        "runtime.repeats=1",
    ),
    *("method=[grad_cam,xgrad_cam]", "metric=[sensitivity_error,confidence_drop,max_box_acc,zeta]"),
    *("runtime.batch_size=2", "pictures.rows=1", "pictures.gallery=1", "report.figures.formats=[png]"),
)
STAGES: dict[str, tuple[Any, str]] = {  # a stage begins where this function is called
    "loading the model": (job, "load_model"),
    "hashing the images": (job, "keep_hashes"),
    "computing": (compute, "compute"),
    "values of the whole set": (whole_set, "ensure_whole_set"),
    "measuring run time": (samples, "ensure_runtime"),
    "making pictures": (samples, "ensure_pictures"),
    "drawing the report": (report, "write"),
}
WAITING = "waiting for another command"
EXIT_CODES = {"SIGINT": 130, "SIGTERM": 143}
# Seconds within which a command is gone: on a quiet machine one, after the call that it is in. Machines are shared, and
# what is asserted is the end with its code and line, so the limit only tells a command that hangs.
GONE = 30.0
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
DISKS = 8  # of as many of a run's writes each is the first that finds the disk full
FULL, FORBIDDEN = ("the disk is full",), ("read-only file system", "permission denied")
PARTS = ("", "records", "curves", "running", "runtime", "whole_set", "pictures", "tables", "figures")
Arguments = tuple[str, ...]


def start(arguments: Arguments, folder: Path, *prepare: Callable[[], object]) -> Run:
    """A run with these results; its log and what it printed lie beside them."""
    printed = folder.with_name(f"{folder.name}-{len(list(folder.parent.glob('*.txt')))}.txt")
    printed.touch()
    return runs.start((*arguments, f"results={folder}"), log_of(folder), printed, *prepare)


def log_of(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.log")


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory):
    """(arguments) -> the results of an undisturbed run, the hash of its values, and its seconds; made once."""
    made = {}

    # What is imported and compiled now needn't be in each fork, where another user may not read it.
    code, lines = benchmark([*TINY, "data.size=2", "data.workers=1", f"results={tmp_path_factory.mktemp('warm')}"])
    assert code == 0, lines

    def run(arguments):
        if arguments not in made:
            folder, before = tmp_path_factory.mktemp("undisturbed") / "results", time.monotonic()
            done = start(arguments, folder, partial(_fill_disk, folder, 0))
            assert done.wait() == 0, done.output()
            made[arguments] = folder, contents(folder / RUN), time.monotonic() - before
        return made[arguments]

    return run


@pytest.fixture(scope="session")
def photographs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photographs") / "images"
    write_photographs(folder)
    return folder


def of_photographs(folder: Path, size: int = 8) -> Arguments:
    return (*TINY, "data=folder", f"data.root={folder}", "data.classes=null", f"data.size={size}")


def check_again(arguments: Arguments, folder: Path, values: str) -> Run:
    """The same command ends with the records of an undisturbed run."""
    again = start(arguments, folder)
    assert again.wait() == 0, again.output()[-1500:]
    assert contents(folder / RUN) == values
    return again


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("count", "victims"), [(1, 1), (2, 2), (3, 1)])
def test_killed_runs_go_on(undisturbed, tmp_path, count, victims, seed):
    """count: how many are given at once, of which one computes. victims: how many of them are killed."""
    arguments, random, folder = (*TINY, "data.size=24"), Random(seed), tmp_path / "results"
    _, values, seconds = undisturbed(arguments)
    for _ in range(60):
        begun = [start(arguments, folder) for _ in range(count)]
        time.sleep(random.uniform(0, 0.8 * seconds))
        if any(run.poll() is not None for run in begun):
            break
        killed, before = random.sample(begun, victims), time.monotonic()
        for run in killed:
            run.kill()
        wait_until(lambda killed=killed: all(group_is_gone(run.pid) for run in killed))
        assert time.monotonic() - before < GONE
        for run in killed:
            started, ended = shards_of(run.log, run.pid)
            assert len(started) - len(ended) <= 1, "a process that was killed had begun several shards in vain"
        if victims < count:
            break  # those that are left do the rest
    for run in begun:
        assert run.poll() == -signal.SIGKILL or run.wait() == 0, run.output()[-1500:]
    _, ended = shards_of(log_of(folder))
    assert len(ended) == len(set(ended)), "finished shards were computed again"
    assert contents(folder / RUN) == values


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("stage", [*STAGES, WAITING])
def test_a_signal_ends_a_run(undisturbed, photographs, tmp_path, stage, terminal):
    random, name = Random(f"{stage}{terminal}"), ("SIGTERM", "SIGINT")[terminal]
    arguments, folder = of_photographs(photographs), tmp_path / "results"
    before, values, _ = undisturbed(arguments)
    if stage == "drawing the report":
        shutil.copytree(before / RUN, folder / RUN)
        (folder / RUN / "report_stamp.json").unlink()
    with locks.held(folder / RUN) if stage == WAITING else contextlib.nullcontext():
        prepare = [] if stage == WAITING else [partial(mark, *STAGES[stage], log_of(folder))]
        with (_at_terminal if terminal else _alone)(arguments, folder, prepare) as (run, type_in):
            wait_until(lambda: _has_reached(run, stage), run)
            time.sleep(random.uniform(0.1, 0.5))
            if run.poll() is None:
                type_in(b"\x03") if terminal else os.kill(run.pid, getattr(signal, name))
                _check_gone(run, name)
    check_again(arguments, folder, values)


@pytest.mark.parametrize("seed", range(2))
def test_a_signal_ends_a_run_that_starts(undisturbed, tmp_path, seed):
    arguments, name, folder = (*TINY, "data.size=6"), tuple(EXIT_CODES)[seed], tmp_path / "results"
    _, values, _ = undisturbed(arguments)
    printed = tmp_path / "output.txt"
    with printed.open("wb") as file:
        command = [sys.executable, "-m", "axiom_bench.cli.main", *arguments, f"results={folder}"]
        handled = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # which a background job inherits as ignored
        process = subprocess.Popen(command, stdout=file, stderr=file, start_new_session=True, preexec_fn=handled)
    run, process.returncode = Run(process.pid, log_of(folder), printed), 0  # it is waited for here, by its number
    wait_until(lambda: _catches(run.pid, signal.SIGTERM), run)  # before, Python itself still starts
    time.sleep(Random(seed).uniform(0.0, 2.0))
    os.kill(run.pid, getattr(signal, name))
    _check_gone(run, name)
    check_again(arguments, folder, values)


@pytest.mark.parametrize("ignored", ["SIGINT", "SIGHUP"])
def test_a_signal_that_a_run_inherits_as_ignored(undisturbed, tmp_path, ignored):
    arguments, folder = (*TINY, "data.size=6"), tmp_path / "results"
    _, values, _ = undisturbed(arguments)
    ignore = partial(signal.signal, getattr(signal, ignored), signal.SIG_IGN)
    run = start(arguments, folder, ignore, partial(mark, compute, "compute", log_of(folder)))
    wait_until(lambda: _has_reached(run, "computing"), run)
    os.killpg(run.pid, getattr(signal, ignored))
    time.sleep(0.5)
    assert run.poll() in (None, 0)
    if run.poll() is None:
        os.kill(run.pid, signal.SIGTERM)
        _check_gone(run, "SIGTERM")
    check_again(arguments, folder, values)


@pytest.mark.parametrize("part", range(DISKS))
def test_a_disk_that_is_full_from_a_write_on(undisturbed, tmp_path, part):
    """Every opening for writing, new folder and renaming in the results folder fails, from one of them on."""
    arguments, folder = (*TINY, "data.size=6"), tmp_path / "results"
    before, values, _ = undisturbed(arguments)
    writes = log_of(before).read_text().count("write ")
    run = start(arguments, folder, partial(_fill_disk, folder, 1 + part * writes // DISKS))
    _check_refused(run, FULL)
    _check_in_vain(check_again(arguments, folder, values))


@pytest.mark.parametrize("becomes", ["full", "read-only"])
def test_a_disk_of_its_own(undisturbed, tmp_path, becomes):
    """So small that the run doesn't fit on it, or read-only from some moment on; then it is as it should be."""
    arguments, folder = (*TINY, "data.size=6"), tmp_path / "results"
    before, values, _ = undisturbed(arguments)
    needed = int(subprocess.check_output(["du", "-sk", str(before / RUN)]).split()[0])
    with mounted(folder, f"size={needed // 2}k" if becomes == "full" else "size=64m"):
        run = start(arguments, folder)
        if becomes == "read-only":
            wait_until(lambda: len(shards_of(run.log)[1]) > 0, run)
            wait_until(lambda: mount("-o", "remount,ro", str(folder)) == 0)  # else a file is open for writing
        _check_refused(run, FULL if becomes == "full" else FORBIDDEN)
        assert mount("-o", "remount,rw,size=64m", str(folder)) == 0
        _check_in_vain(check_again(arguments, folder, values))


@pytest.mark.parametrize("later", [False, True])
def test_folders_that_may_not_be_written(undisturbed, tmp_path, later):
    """From the start, or from some moment on; then they may."""
    arguments, folder = (*TINY, "data.size=6"), tmp_path / "results"
    _, values, _ = undisturbed(arguments)
    folder.mkdir()
    for parent in (tmp_path, *tmp_path.parents):
        with contextlib.suppress(PermissionError):
            parent.chmod(parent.stat().st_mode | 0o011)
    tmp_path.chmod(0o777)
    folder.chmod(0o777 if later else 0o555)
    run = start(arguments, folder, become_nobody)
    if later:
        wait_until(lambda: len(shards_of(run.log)[1]) > 0, run)
        set_modes(folder, 0o555)
    _check_refused(run, FORBIDDEN)
    set_modes(folder, 0o777)
    _check_in_vain(check_again(arguments, folder, values))


def test_a_clock_that_jumps_while_a_run_computes(undisturbed, photographs, tmp_path):
    """A day ahead and back, every few readings."""
    arguments = of_photographs(photographs, 12)
    run = start(arguments, tmp_path / "results", let_clock_jump)
    assert run.wait() == 0, run.output()[-1500:]
    assert contents(tmp_path / "results" / RUN) == undisturbed(arguments)[1]


def test_a_clock_that_jumps_between_runs(undisturbed, tmp_path):
    """A run is killed, its files and the images get times a day off, and the run goes on."""
    images, folder, random = tmp_path / "photographs", tmp_path / "results", Random(0)
    write_photographs(images)
    arguments = of_photographs(images, 12)
    _, values, seconds = undisturbed(arguments)
    for shift in (DAY, -DAY, -DAY):
        run = start(arguments, folder)
        time.sleep(random.uniform(0, 0.8 * seconds))
        run.kill()
        for path in (*folder.rglob("*"), *images.rglob("*")):
            state = path.stat()
            os.utime(path, (state.st_atime + shift, state.st_mtime + shift))
    _, ended = shards_of(check_again(arguments, folder, values).log)
    assert len(ended) == len(set(ended)), "finished shards were computed again"


@pytest.mark.parametrize("seed", range(6))
def test_a_folder_that_is_deleted_under_a_run(undisturbed, tmp_path, seed):
    """The run folder or a part of it: the run may end well, or with a sentence."""
    arguments, folder, random = (*TINY, "data.size=12"), tmp_path / "results", Random(seed)
    _, values, seconds = undisturbed(arguments)
    run = start(arguments, folder)
    time.sleep(random.uniform(0, 0.9 * seconds))
    shutil.rmtree(folder / RUN / random.choice(PARTS), ignore_errors=True)
    assert run.wait() in (0, 2), run.output()[-1500:]
    assert "Traceback" not in run.output()
    check_again(arguments, folder, values)


@contextlib.contextmanager
def _alone(arguments: Arguments, folder: Path, prepare: list[Any]) -> Iterator[tuple[Run, Any]]:
    yield start(arguments, folder, *prepare), None


@contextlib.contextmanager
def _at_terminal(arguments: Arguments, folder: Path, prepare: list[Any]) -> Iterator[tuple[Run, Any]]:
    """A run, and what types at its terminal."""
    keyboard, screen = os.openpty()
    run = start(arguments, folder, partial(os.login_tty, screen), partial(os.close, keyboard), *prepare)
    os.close(screen)

    def copy() -> None:
        with run.printed.open("ab", buffering=0) as file, contextlib.suppress(OSError):
            while part := os.read(keyboard, 4096):  # OSError: the last process is gone
                file.write(part)

    reading = threading.Thread(target=copy, daemon=True)
    reading.start()
    yield run, partial(os.write, keyboard)
    reading.join(timeout=10)
    os.close(keyboard)


def _has_reached(run: Run, stage: str) -> bool:
    return "waiting for" in run.output() if stage == WAITING else run.log.exists() and "stage" in run.log.read_text()


def _catches(pid: int, number: int) -> bool:
    """Whether the process has a handler of this signal."""
    mask = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("SigCgt"))
    return bool(int(mask.split()[1], 16) >> (number - 1) & 1)


def _check_gone(run: Run, name: str) -> None:
    """A signal has come: the group is gone, with the exit code and one line."""
    before = time.monotonic()
    run.wait()
    wait_until(lambda: group_is_gone(run.pid))
    assert time.monotonic() - before < GONE
    assert run.code == EXIT_CODES[name], run.output()[-1500:]
    assert run.output().count(LINE) == 1, run.output()[-1500:]
    for word in ("Traceback", "Exception ignored", "KeyboardInterrupt"):
        assert word not in run.output(), run.output()[-1500:]


def _check_refused(run: Run, words: Arguments) -> None:
    """The run ends with 2 and a sentence, or it needed no more room."""
    if run.wait() != 0:
        assert run.code == 2, run.output()[-1500:]
        assert any(word in run.output() for word in words), run.output()[-1500:]
        assert "Traceback" not in run.output(), run.output()[-1500:]


def _check_in_vain(run: Run) -> None:
    begun, _ = shards_of(run.log)
    assert len(begun) - len(set(begun)) <= 1, "several shards were begun in vain"


def _fill_disk(folder: Path, nth: int) -> None:
    """An audit hook (PEP 578), which fails what needs room in the folder as a full disk does. nth: of its writes the
    first that fails; 0: none, they are only counted."""
    count = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        if event not in ("open", "os.mkdir", "os.rename"):
            return
        path, *_ = arguments
        needs_room = event != "open" or (isinstance(arguments[2], int) and bool(arguments[2] & WRITES))
        if needs_room and not isinstance(path, int) and _is_in(os.fsdecode(path), folder):
            count += 1
            write_line(log_of(folder), "write", count)
            if nth and count >= nth:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), os.fsdecode(path))

    sys.addaudithook(hook)


def _is_in(path: str, folder: Path) -> bool:
    return os.path.abspath(path).startswith(f"{folder}/") or os.path.abspath(path) == str(folder)
