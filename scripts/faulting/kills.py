"""SIGKILL at random moments: a run is killed and begun again until it comes to its end."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

from .launcher import Plan
from .runs import RUN, TINY, Process, compare, forked, group_is_gone, reference, shards_of, wait_until
from .trial import Case, Fault, Trial

ARGUMENTS = (*TINY, "data.size=48")
MAX_ROUNDS = 60  # of one folder: a run that doesn't get on would go on for ever


def _attempt(trial: Trial, case: Case, runs: int, victims: int) -> None:
    """runs: how many share the folder. victims: how many of them are killed at once."""
    values, seconds = reference(case.work, ARGUMENTS)
    while trial.times < MAX_ROUNDS:
        processes = [_start(case.folder, index) for index in range(runs)]
        if _ended_within(case.random.uniform(0, 0.8 * seconds), processes):
            break
        _kill(trial, case.random.sample(processes, victims), case.folder / "log")
        if victims < runs:
            break  # those that are left do the rest
    for process in processes:
        trial.must(process.poll() == -9 or process.wait() == 0, f"exit code {process.code}: {process.output()[-1000:]}")
    _, ended = shards_of(case.folder / "log")
    trial.must(len(ended) == len(set(ended)), f"{len(ended) - len(set(ended))} finished shards were computed again")
    compare(trial, case.folder / RUN, values)


def _start(folder: Path, index: int) -> Process:
    return forked([*ARGUMENTS, f"results={folder}"], Plan(str(folder / "log")), folder / f"said-{index}")


def _ended_within(seconds: float, processes: list[Process]) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if any(process.poll() is not None for process in processes):
            return True
        time.sleep(0.005)
    return False


def _kill(trial: Trial, processes: list[Process], log: Path) -> None:
    start = time.monotonic()
    for process in processes:
        process.kill()
    wait_until(lambda: all(group_is_gone(process.pid) for process in processes))
    trial.took(time.monotonic() - start, 2.0)
    trial.times += 1
    for process in processes:
        begun, ended = shards_of(log, process.pid)
        trial.repeated = max(trial.repeated, lost := len(begun) - len(ended))
        trial.must(lost <= 1, f"a process that was killed had begun {lost} shards in vain")


FAULTS = (
    Fault("SIGKILL, a run with two workers", partial(_attempt, runs=1, victims=1), 80),
    Fault("SIGKILL, two runs in one folder, both", partial(_attempt, runs=2, victims=2), 80),
    Fault("SIGKILL, three runs in one folder, one of them", partial(_attempt, runs=3, victims=1), 40),
)
