"""A run from top to bottom: a command line's jobs, each prepared, computed in shards and finished by an executor."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from omegaconf import DictConfig, OmegaConf
from rich import get_console

from axiom_bench.cutting.passes import pieces
from axiom_bench.errors import BenchError, first_names
from axiom_bench.evaluation import plugins
from axiom_bench.evaluation.plugins import Plugin
from axiom_bench.records import artefacts, files, record_files, running
from axiom_bench.run import executors, manifest, parcels
from axiom_bench.run.composing import settings
from axiom_bench.run.composing.composition import Composition, base_keys, composed
from axiom_bench.run.executors import Executor
from axiom_bench.run.job import chosen, run_folder
from axiom_bench.run.progress import Estimate, progress
from axiom_bench.run.result import MACHINE, OF_FIRST, Failure, Result
from axiom_bench.run.worker import Task, compute_part, finish, forget, prepare

MAX_JOBS = 5  # that a line names


def configuration(overrides: Sequence[str], config_folder: Path | None = None) -> dict[str, Any]:
    """What a command line configures, before it is spread over jobs. Raises BenchError."""
    with composed(overrides, config_folder) as composition:
        return composition.plain()


def check(config: dict[str, Any]) -> tuple[tuple[Plugin, ...], tuple[Plugin, ...]]:
    """The methods and metrics, once the settings that concern all jobs are checked. Raises BenchError."""
    settings.add_current_folder()
    settings.check_keys(config, base_keys())
    settings.check(config)
    executors.checked(config["executor"])
    methods, metrics = chosen("method", config), chosen("metric", config)
    if config["pictures"]["rows"] and config["pictures"]["perturbation"] not in config["metric"]:
        plugins.load("metric", config["pictures"]["perturbation"])  # which refuses an unknown name
    return methods, metrics


def run(
    composition: Composition,
    config: dict[str, Any],
    goes_on: bool = False,
    estimate: Estimate | None = None,
) -> list[Result]:
    """Run a command line's jobs and return their results in order, each job once.

    Args:
        config: The checked settings of all jobs.
        goes_on: Reuse values that the previous command computed with user plug-ins.
        estimate: Of the time of a command that runs several command lines; otherwise it is of these jobs.

    Raises:
        BenchError: If the run folder can't be written.
    """
    with _open_folder(config) as folder:
        overrides = list(composition.overrides)
        command = running.command_to_continue(folder, overrides, goes_on) or uuid4().hex
        about_command = {  # what a reader of the unfinished run needs to know of the whole command
            **{"experiment": config["experiment"], "run": config["run"], "overrides": overrides},
            **{"created": datetime.now(UTC).isoformat(timespec="seconds"), "config": config},
            **{"jobs": len(composition.jobs), "command": command},
        }
        running.begin(folder, about_command)
        with executors.opened(config["executor"], folder) as executor:
            notes: dict[str, list[str]] = {}
            results: list[Result] = []
            estimate = estimate or Estimate(len(composition.jobs))
            for job_config in composition.job_configs():
                estimate.jobs -= 1
                job = prepared_job(job_config, command, executor)
                results.append(run_job(job, executor, notes, estimate))
            results = _distinct(results)
        _print_shared(notes)
        shards = sum(len(result.shards) for result in results)
        if there := sum(len(result.shards) - result.shards_computed for result in results):
            _print(f"{there} of {shards} shards were already there" + ": nothing was computed" * (there == shards))
        return results


@contextmanager
def _open_folder(config: Mapping[str, Any]) -> Iterator[Path]:
    """The run folder: of this format, writable and locked."""
    folder = run_folder(config)
    files.ensure_writable(folder)
    artefacts.check_format(folder)
    with running.held(folder):
        files.sweep(folder)
        yield folder


@dataclass(frozen=True)
class PreparedJob:
    """A job before its shards are computed.

    result: With a failure if the job can't begin.
    """

    task: Task
    result: Result


def prepared_job(config: DictConfig, command: str, executor: Executor) -> PreparedJob:
    """Load and check one job. A failure is in its result, so that the other jobs go on."""
    task = Task(uuid4().hex, command, {})
    try:
        resolved: Any = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
        task = replace(task, config=resolved)
        result: Result = _done(executor, prepare, task)
        return PreparedJob(task, result)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - one job's defect must not stop the other jobs
        forget()
        return PreparedJob(task, Result(str(OmegaConf.select(config, "model.name")), failure=Failure.of(error)))


def run_job(
    job: PreparedJob,
    executor: Executor,
    notes: dict[str, list[str]],
    estimate: Estimate | None = None,
) -> Result:
    """Compute and finish one job. A failure is in its result, so that the other jobs go on.

    Args:
        notes: The jobs of each sentence that was printed. A sentence that an earlier job had isn't printed again.
        estimate: Of the command's time.
    """
    task, result = job.task, job.result
    if result.failure is not None:
        return result
    begun = {**manifest.of_job(result), "shards": result.shards}
    try:
        running.announce(task.folder, result.job, begun)
        task = replace(task, answers=result.answers)
        _print(*result.notes.get(MACHINE, ()))
        answers = [answer.sentence for answer in result.answers if answer.level == "note"]
        for sentence in (*result.notes.get(OF_FIRST, ()), *answers):
            if sentence not in notes:
                _print(f"{result.job}: {sentence}")
            notes.setdefault(sentence, []).append(result.job)
        if result.missing:
            result = _computed(task, result, executor, estimate or Estimate(0))
        record_files.remove(task.folder, result.damaged)
        result = _done(executor, finish, task, result)
        running.announce(task.folder, result.job, manifest.of_job(result))
    except (Exception, SystemExit) as error:  # noqa: BLE001 - one job's defect must not stop the other jobs
        failure = Failure.of(error)
        failed = {**begun, "failures": [{"job": result.job, "message": failure.message}]}
        with suppress(BenchError):  # a disk that is full is told already
            running.announce(task.folder, result.job, failed)
        return Result(str(task.config["model"]["name"]), failure=failure)
    finally:
        forget()
    return result


def _done(executor: Executor, function: Callable[..., Any], task: Task, *arguments: Any) -> Any:
    """Return what a worker's function returns, with its files in the run folder. Raises as `executors.result`."""
    future = parcels.submit(executor, function, task, *arguments)
    return parcels.received(task, executors.result(future, task.config))


def _computed(task: Task, result: Result, executor: Executor, estimate: Estimate) -> Result:
    """With what is missing, computed in parts; after a failure no further part is begun. Where a plug-in has changed
    what others read, no file that was written beside it stays."""
    if result.cost is not None:
        _print(f"{result.job}: {result.cost}")
    tasks = min(len(result.missing), executor.tasks or len(result.missing))
    parts = [result.missing[part] for part in pieces(len(result.missing), -(-len(result.missing) // tasks))]
    start = time.perf_counter()
    estimate.images = estimate.jobs * sum(result.shards.values())
    missing_images = sum(result.shards[key] for key in result.missing)
    with progress(result.job, missing_images, estimate=estimate) as shown:
        futures = [parcels.submit(executor, compute_part, task, keys) for keys in parts]
        keys_by_future = dict(zip(futures, parts, strict=True))
        images = 0
        try:
            for future in parcels.arriving(executor, list(futures)):
                part = parcels.received(task, executors.result(future, task.config))
                keys = keys_by_future[future]
                futures.remove(future)
                printed = result.notes.get(MACHINE, {})
                _print(*(sentence for sentence in part.notes.get(MACHINE, ()) if sentence not in printed))
                result += part
                images += sum(result.shards[key] for key in keys)
                shown.advance(images - shown.done)
        except BaseException as error:
            is_tainted, written = getattr(error, "is_tainted", False), list(result.written)
            for future in futures:
                if not future.cancel() and is_tainted:
                    with suppress(Exception):  # what it did is lost, whatever that was
                        written += parcels.received(task, executors.result(future, task.config)).written
            if is_tainted:
                record_files.remove(task.folder, written)
            raise
    return replace(result, wall=time.perf_counter() - start)


def _print_shared(notes: Mapping[str, Sequence[str]]) -> None:
    """Print the jobs that share notes with an earlier job, in one line for the same jobs."""
    for (first, *others), count in Counter(map(tuple, notes.values())).items():
        if others:
            verb = "holds" if count == 1 else "hold"
            _print(f"{first}: {count} of the notes above {verb} for {first_names(others, MAX_JOBS)} as well")


def _print(*lines: str) -> None:
    for line in lines:
        get_console().print(line, highlight=False, soft_wrap=True, markup=False)


def _distinct(results: Sequence[Result]) -> list[Result]:
    """Each job once: two may be the same, as with model.layer=default and the layer's own name. Of jobs with one name
    and different settings all but the first fail, since their values couldn't be told apart."""
    first: dict[str, Result] = {}
    kept = []
    for result in results:
        if result.failure is not None or first.setdefault(result.job, result) is result:
            kept.append(result)
        elif _without_layer(result.config) != _without_layer(first[result.job].config):
            sentence = "Another job has the same model name, layer and data name; give each its own name (name: NAME)."
            kept.append(replace(result, failure=Failure(sentence)))
    return kept


def _without_layer(config: Mapping[str, Any]) -> dict[str, Any]:
    return {**config, "model": {key: value for key, value in config["model"].items() if key != "layer"}}
