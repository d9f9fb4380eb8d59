"""One job of a sweep, from its configuration to what it leaves in the run folder: its tasks, done by an executor."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any
from uuid import uuid4

from omegaconf import DictConfig, OmegaConf
from rich import get_console

from axiom_bench.cutting.passes import pieces
from axiom_bench.errors import BenchError
from axiom_bench.records import holdings, mirror, running
from axiom_bench.run import executors, manifest
from axiom_bench.run.computing.compute import Computed
from axiom_bench.run.executors import Executor, Future, Local
from axiom_bench.run.manifest import Failure, Outcome
from axiom_bench.run.notes import Notes
from axiom_bench.run.progress import progress
from axiom_bench.run.tasks import Plan, Task, compute_part, failure, finish, forget, prepare


def execute(config: DictConfig, command: str, executor: Executor | None = None) -> Outcome:
    """Runs a job. A failure is an outcome too, so that the other jobs of the sweep go on. command: see `Task`.
    executor: None: the tasks are done here."""
    name = str(OmegaConf.select(config, "model.name"))
    try:
        resolved: Any = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
        outcome = _run(Task(uuid4().hex, command, resolved), executor or Local())
    except (Exception, SystemExit) as error:  # noqa: BLE001 - one job's defect must not stop the sweep's other jobs
        outcome = failure(name, error)
    finally:
        forget()
    return outcome if isinstance(outcome, Outcome) else Outcome(name, {}, failure=outcome)


def _run(task: Task, executor: Executor) -> Outcome | Failure:
    plan: Plan | Failure = _result(executor.submit(prepare, task), task)
    if isinstance(plan, Failure):
        return plan
    job, folder = plan.begun.job, task.folder
    begun = {**manifest.of_job(plan.begun), "shards": plan.shards}
    running.announce(folder, job, begun)
    try:
        ended = _ended(task, plan, executor)
    except BenchError as error:  # the engine's
        ended = failure(task.name, error)
    if isinstance(ended, Failure):
        running.announce(folder, job, {**begun, "failures": [{"job": job, "message": ended.message}]})
    else:
        mirror.pull(folder)
        running.announce(folder, job, manifest.of_job(ended))
    return ended


def _ended(task: Task, plan: Plan, executor: Executor) -> Outcome | Failure:
    told = _told(plan.notes, {})
    computed, notes = Computed(), plan.notes
    if plan.missing:
        _print(plan.begun.job, plan.cost)
        done = _computed(task, plan, executor, told)
        if isinstance(done, Failure):
            return done
        computed, notes = done
    holdings.remove(task.folder, plan.damaged)
    if there := len(plan.shards) - len(plan.missing):
        _print(plan.begun.job, f"{there} of {len(plan.shards)} shards were already there")
    ended: Outcome | Failure = _result(executor.submit(finish, task, plan, computed, notes), task)
    return ended


def _computed(task: Task, plan: Plan, executor: Executor, told: dict[str, None]) -> tuple[Computed, Notes] | Failure:
    """Computes what is missing, in parts; after a failure no further part is begun."""
    parts = [plan.missing[part] for part in pieces(len(plan.missing), -(-len(plan.missing) // _tasks(plan, executor)))]
    computed, notes, written = Computed(), plan.notes, list[str]()
    start = time.perf_counter()
    with progress(plan.begun.job, sum(plan.shards[key] for key in plan.missing)) as shown:
        is_here = isinstance(executor, Local)  # where all of the data is
        excerpts = [None if is_here else plan.excerpt(keys) for keys in parts]
        futures = [executor.submit(compute_part, task, *part) for part in zip(parts, excerpts, strict=True)]
        try:
            images = 0
            for number, (keys, future) in enumerate(zip(parts, futures, strict=True), 1):
                part = _result(future, task)
                if isinstance(part, Failure):
                    _give_up(part, futures[number:], written, task)
                    return part
                computed, notes = computed + part.computed, notes + part.notes
                told = _told(part.notes, told)
                written += part.written
                images += sum(plan.shards[key] for key in keys)
                shown.advance(images - shown.done)
        except BaseException:
            for future in futures:
                future.cancel()
            raise
    return replace(computed, wall=time.perf_counter() - start), notes


def _tasks(plan: Plan, executor: Executor) -> int:
    return min(len(plan.missing), executor.tasks or len(plan.missing))


def _give_up(part: Failure, others: Sequence[Future], written: list[str], task: Task) -> None:
    """Where a plug-in has changed what others read, no file that was written beside it stays."""
    for future in others:
        if not future.cancel() and part.is_tainted:
            with suppress(Exception):  # what it did is lost, whatever that was
                written += future.result().written
    if part.is_tainted:
        mirror.remove(task.folder, written)


def _result(future: Future, task: Task) -> Any:
    return executors.result(future, task.config["executor"])


def _told(notes: Notes, told: dict[str, None]) -> dict[str, None]:
    """Prints what happened on a machine, each sentence once: what has been told by then."""
    for message in notes.machine:
        if message not in told:
            get_console().print(message, highlight=False, soft_wrap=True, markup=False)
    return told | notes.machine


def _print(job: str, line: str | None) -> None:
    if line is not None:
        get_console().print(f"{job}: {line}", highlight=False, soft_wrap=True)
