"""`axiom-bench` with a plan: notes when a stage begins and each shard's start and end, or lets a fault befall itself.

python -m faulting.launcher PLAN_AS_JSON ARGUMENTS...
"""

from __future__ import annotations

import errno
import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

STAGES = {  # a stage begins where this function is called
    "loading the model": "axiom_bench.run.jobs.job.load_model",
    "hashing the images": "axiom_bench.run.jobs.job.keep_hashes",
    "computing": "axiom_bench.run.computing.compute.compute",
    "values of the whole set": "axiom_bench.run.computing.whole_set.ensure",
    "measuring run time": "axiom_bench.run.computing.run_times.ensure",
    "making pictures": "axiom_bench.run.computing.pictures.ensure",
    "drawing the report": "axiom_bench.report.write",
}
DAY = 86_400.0  # seconds
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT


@dataclass(frozen=True)
class Plan:
    """log: gets a line for each start and end of a shard. stage: its name is written to the log as it begins.
    full: a folder whose disk is full from its `nth` write on. clock: a day is added to the time, taken away again, ...,
    at each so many readings."""

    log: str
    stage: str = ""
    full: str = ""
    nth: int = 0
    clock: int = 0

    def as_json(self) -> str:
        return json.dumps(asdict(self))


def prepare(plan: Plan) -> None:
    """Changes this process as planned. For the process of one run alone, since it can't be undone."""
    if plan.clock:
        time.time = _jumping(plan.clock)
    if plan.full:
        sys.addaudithook(_full_disk(plan))
    if plan.stage != "starting":  # imports take what a signal should meet there
        _replace("axiom_bench.run.computing.compute.compute", lambda function: _logged(plan, function))
    if plan.stage in STAGES:
        _replace(STAGES[plan.stage], lambda function: _marked(plan, function))


def write_line(path: str, *words: object) -> None:
    """Adds a line at once, also where several processes write."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        os.write(descriptor, (" ".join(map(str, words)) + "\n").encode())
    finally:
        os.close(descriptor)


def _replace(name: str, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    module_name, _, attribute = name.rpartition(".")
    module = importlib.import_module(module_name)
    setattr(module, attribute, wrap(getattr(module, attribute)))


def _logged(plan: Plan, compute: Callable[..., Any]) -> Callable[..., Any]:
    def logged(job: Any, cut_model: Any, task: Any, *rest: Any) -> Any:
        write_line(plan.log, "start", os.getpid(), task.key)
        result = compute(job, cut_model, task, *rest)
        write_line(plan.log, "end", os.getpid(), task.key)
        return result

    return logged


def _marked(plan: Plan, function: Callable[..., Any]) -> Callable[..., Any]:
    def marked(*arguments: Any, **options: Any) -> Any:
        write_line(plan.log, "stage")
        return function(*arguments, **options)

    return marked


def _jumping(readings: int) -> Callable[[], float]:
    """A clock that jumps a day ahead, and back again."""
    count, true_time = 0, time.time

    def jumping() -> float:
        nonlocal count
        count += 1
        return true_time() + DAY * (count // readings % 2)

    return jumping


def _full_disk(plan: Plan) -> Callable[[str, tuple[Any, ...]], None]:
    """An audit hook (PEP 578) which fails what needs room in the folder as a full disk does."""
    folder, count = plan.full, 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        if event == "open":
            path, _, flags = arguments
            needs_room = isinstance(flags, int) and bool(flags & WRITES)
        elif event in ("os.mkdir", "os.rename"):
            path, needs_room = arguments[0], True
        else:
            return
        if needs_room and not isinstance(path, int) and os.path.abspath(os.fsdecode(path)).startswith(folder):
            count += 1
            write_line(plan.log, "write", count)
            if plan.nth and count >= plan.nth:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), os.fsdecode(path))

    return hook


if __name__ == "__main__":
    the_plan = Plan(**json.loads(sys.argv[1]))
    if the_plan.stage == "starting":
        write_line(the_plan.log, "stage")
    prepare(the_plan)
    from axiom_bench.cli.main import main

    sys.argv = ["axiom-bench", *sys.argv[2:]]
    assert Path(the_plan.log).parent.is_dir()
    raise SystemExit(main())
