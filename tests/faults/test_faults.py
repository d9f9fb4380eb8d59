"""A run is killed, interrupted, or finds its disk full: it ends as docs/reliability.md promises,
and the same command then ends with the records of an undisturbed run. Damaged files:
tests/run/test_damage.py.

Moments are random, by a seed; what befalls a run that has ended by then befalls nothing.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest

from axiom_bench.cli.benchmark import benchmark
from axiom_bench.cli.stopping import STOPPED_LINE
from axiom_bench.run import shards
from tests.faults import runs
from tests.faults.runs import Run, contents, group_is_gone, mark, shards_of, wait_until, write_line

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="forks, and reads /proc"),
]
RUN = Path("quick", "default")  # below the results folder
TINY = (
    "run=default", "model=scenes_vgg", "data.batch_size=4", "shard_size=2", "data.workers=2",
    "device=cpu",
    "method=[grad_cam,xgrad_cam]", "metric=[sensitivity_error,confidence_drop,max_box_acc,zeta]",
    "runtime.repeats=1", "runtime.batch_size=2", "pictures.rows=1", "pictures.gallery=1",
    "report.figures.formats=[png]",
)  # fmt: skip
# Seconds within which a command is gone: on a quiet machine one, after the call that it is in.
# Machines are shared, and what is asserted is the end with its code and line, so the limit only
# tells a command that hangs.
GONE, DAY = 30.0, 86_400.0
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
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
    """Return a function (arguments) that gives the results folder of an undisturbed run, the hash
    of its values, and its seconds.

    Each run is done once.
    """
    results = {}
    # Import and compile now, so that forks needn't.
    code, lines = benchmark(
        [*TINY, "data.size=2", "data.workers=1", f"results={tmp_path_factory.mktemp('warm')}"]
    )
    assert code == 0, lines

    def run(arguments):
        if arguments not in results:
            folder = tmp_path_factory.mktemp("undisturbed") / "results"
            before = time.monotonic()
            done = start(arguments, folder, partial(_fill_disk, folder, 0))
            assert done.wait() == 0, done.output()
            values = contents(folder / RUN)
            results[arguments] = (folder, values, time.monotonic() - before)
        return results[arguments]

    return run


def check_again(arguments: Arguments, folder: Path, values: str) -> Run:
    """Check that the same command ends with the records of an undisturbed run."""
    again = start(arguments, folder)
    assert again.wait() == 0, again.output()[-1500:]
    assert contents(folder / RUN) == values
    return again


def let_clock_jump() -> None:
    """Let the clock jump a day ahead and back, every few readings."""
    count = 0
    true_time = time.time

    def jumping() -> float:
        nonlocal count
        count += 1
        return true_time() + DAY * (count // 5 % 2)

    time.time = jumping


def test_killed_runs_go_on(undisturbed, tmp_path):
    """Start two commands, of which one computes and the other waits, and kill both at random
    moments again and again.
    """
    arguments = (*TINY, "data.size=24")
    random = Random(0)
    folder = tmp_path / "results"
    _, values, seconds = undisturbed(arguments)
    for _ in range(60):
        begun = [start(arguments, folder, let_clock_jump) for _ in range(2)]
        time.sleep(random.uniform(0, 0.8 * seconds))
        if any(run.poll() is not None for run in begun):
            break
        before = time.monotonic()
        for run in begun:
            run.kill()
        wait_until(lambda begun=begun: all(group_is_gone(run.pid) for run in begun))
        assert time.monotonic() - before < GONE
        for run in begun:
            started, ended = shards_of(run.log, run.pid)
            assert len(started) - len(ended) <= 1, (
                "a process that was killed had begun several shards in vain"
            )
    for run in begun:
        assert run.wait() == 0, run.output()[-1500:]
    _, ended = shards_of(log_of(folder))
    assert len(ended) == len(set(ended)), "finished shards were computed again"
    assert contents(folder / RUN) == values


def test_ctrl_c_ends_a_run_with_its_workers(undisturbed, tmp_path):
    """Send SIGINT to all processes, as a terminal does. Other signals are in
    tests/cli/test_stopping.py.
    """
    arguments = (*TINY, "data.size=6")
    folder = tmp_path / "results"
    _, values, _ = undisturbed(arguments)
    run = start(arguments, folder, partial(mark, shards, "compute", log_of(folder)))
    wait_until(lambda: run.log.exists() and "stage" in run.log.read_text(), run)
    os.killpg(run.pid, signal.SIGINT)
    before = time.monotonic()
    assert run.wait() == 130, run.output()[-1500:]
    wait_until(lambda: group_is_gone(run.pid))
    assert time.monotonic() - before < GONE
    assert run.output().count(STOPPED_LINE) == 1, run.output()[-1500:]
    assert not [
        word
        for word in ("Traceback", "Exception ignored", "KeyboardInterrupt")
        if word in run.output()
    ]
    check_again(arguments, folder, values)


def test_a_disk_that_becomes_full_keeps_what_is_done(undisturbed, tmp_path):
    """Each opening for writing, new folder and renaming in the results folder fails, from one of
    them on: the run ends with 2 and a sentence, and the same command computes the missing shards
    only.
    """
    arguments = (*TINY, "data.size=6")
    folder = tmp_path / "results"
    before, values, _ = undisturbed(arguments)
    writes = log_of(before).read_text().count("write ")
    run = start(arguments, folder, partial(_fill_disk, folder, writes // 2))
    assert run.wait() == 2, run.output()[-1500:]
    assert f"{folder / RUN}" in run.output(), run.output()[-1500:]
    assert "the disk is full" in run.output(), run.output()[-1500:]
    assert "Traceback" not in run.output(), run.output()[-1500:]
    _, ended = shards_of(run.log)
    assert ended, "the disk was full before the first shard"
    begun, _ = shards_of(check_again(arguments, folder, values).log)
    assert len(begun) - len(set(begun)) <= 1, "several shards were begun in vain"


def _fill_disk(folder: Path, nth: int) -> None:
    """An audit hook (PEP 578), which fails what needs room in the folder as a full disk does. nth:
    of its writes the first that fails; 0: none, they are only counted.
    """
    count = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        if event not in ("open", "os.mkdir", "os.rename") or isinstance(arguments[0], int):
            return
        path = os.path.abspath(os.fsdecode(arguments[0]))
        needs_room = event != "open" or (
            isinstance(arguments[2], int) and bool(arguments[2] & WRITES)
        )
        if needs_room and Path(path).is_relative_to(folder):
            count += 1
            write_line(log_of(folder), "write", count)
            if nth and count >= nth:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

    sys.addaudithook(hook)
