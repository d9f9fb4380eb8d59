"""Folders deleted under a run: the whole run folder, or one of its parts, at a random moment."""

from __future__ import annotations

import shutil
import time
from functools import partial

from .launcher import Plan
from .runs import RUN, TINY, compare, forked, reference
from .trial import Case, Fault, Trial

ARGUMENTS = (*TINY, "data.size=12")
PARTS = ("records", "curves", "running", "runtime", "whole_set", "pictures", "tables", "figures")


def _attempt(trial: Trial, case: Case, whole: bool) -> None:
    """The run may end well, or with a sentence; the same command then ends with all of its records."""
    values, seconds = reference(case.work, ARGUMENTS)
    own, plan = [*ARGUMENTS, f"results={case.folder}"], Plan(str(case.folder / "log"))
    run = forked(own, plan, case.folder / "said")
    time.sleep(case.random.uniform(0, 0.9 * seconds))
    if run.poll() is None:
        part = "" if whole else case.random.choice(PARTS)
        shutil.rmtree(case.folder / RUN / part, ignore_errors=True)
        trial.times += 1
        trial.must(run.wait() in (0, 2), f"{part or 'the folder'} deleted: exit code {run.code}")
        trial.must("Traceback" not in run.output(), f"{part or 'the folder'} deleted: {run.output()[-1500:]}")
        trial.words = ["ends well, or with exit code 2 and a sentence"]
    run.wait()
    again = forked(own, plan, case.folder / "said-again")
    trial.must(again.wait() == 0, f"the same command again: exit code {again.code}: {again.output()[-1500:]}")
    compare(trial, case.folder / RUN, values)


FAULTS = (
    Fault("the run folder deleted under a run", partial(_attempt, whole=True), 10),
    Fault("a part of it deleted under a run", partial(_attempt, whole=False), 10),
)
