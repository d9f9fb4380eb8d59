"""Clocks that jump: while a run computes, and between two runs, whose files then are of tomorrow or of yesterday."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

from .launcher import DAY, Plan
from .runs import RUN, TINY, compare, forked, photographs, reference, shards_of
from .trial import Case, Fault, Trial


def _while_it_runs(trial: Trial, case: Case) -> None:
    """A day ahead and back, every few readings of the clock."""
    own = _arguments(photographs(case.work))
    values, _ = reference(case.work, own)
    plan = Plan(str(case.folder / "log"), clock=case.random.randint(1, 8))
    run = forked([*own, f"results={case.folder}"], plan, case.folder / "said")
    trial.must(run.wait() == 0, f"exit code {run.code}: {run.output()[-1500:]}")
    trial.times += 1
    compare(trial, case.folder / RUN, values)


def _between_runs(trial: Trial, case: Case) -> None:
    """A run is killed, its files and the images get times a day off, and the run goes on."""
    images = case.folder / "images"
    shutil.copytree(photographs(case.work), images)
    own = _arguments(images)
    values, seconds = reference(case.work, _arguments(photographs(case.work)))
    log = case.folder / "log"
    for _ in range(3):
        run = forked([*own, f"results={case.folder}"], Plan(str(log)), case.folder / "said")
        time.sleep(case.random.uniform(0, 0.8 * seconds))
        run.kill()
        _shift(case.folder, case.random.choice([-DAY, DAY]))
        trial.times += 1
    run = forked([*own, f"results={case.folder}"], Plan(str(log)), case.folder / "said")
    trial.must(run.wait() == 0, f"exit code {run.code}: {run.output()[-1500:]}")
    begun, ended = shards_of(log)
    trial.must(len(ended) == len(set(ended)), f"{len(ended) - len(set(ended))} finished shards were computed again")
    trial.repeated = len(begun) - len(ended)
    compare(trial, case.folder / RUN, values)


def _arguments(images: Path) -> list[str]:
    return [*TINY, "data=folder", f"data.root={images}", "data.classes=null", "data.size=12"]


def _shift(folder: Path, seconds: float) -> None:
    for path in folder.rglob("*"):
        state = path.stat()
        os.utime(path, (state.st_atime + seconds, state.st_mtime + seconds))


FAULTS = (
    Fault("clock jumps by a day while a run computes", _while_it_runs, 4),
    Fault("killed, clock a day off, same command", _between_runs, 12),
)
