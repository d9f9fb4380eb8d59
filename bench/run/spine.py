"""A run from top to bottom: compose the jobs of a command line, and prepare, compute and finish
each of them.

A job is one model, cut at one layer, on one data set. Its images are divided into shards, and a
shard is computed only if the run folder lacks some of its values. An executor runs the tasks of a
job, in this process or in others; `run.worker` defines the tasks, and `run.parcels` brings the
files of other processes into the run folder.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from omegaconf import DictConfig, OmegaConf
from rich import get_console

from axiom_bench.environment import add_current_folder, line_width, return_freed_memory, wrapped
from axiom_bench.errors import BenchError, first_names
from axiom_bench.evaluation import plugins
from axiom_bench.evaluation.plugins import AnyPlugin
from axiom_bench.notes import MachineNote, NotFiniteMaps
from axiom_bench.records import artefacts, files, record_files, running
from axiom_bench.records.entries import AnnouncedJob, FailureEntry
from axiom_bench.run import executors, manifest, parcels
from axiom_bench.run.composing.composition import Composition, base_keys, composed
from axiom_bench.run.composing.settings import Settings, check_keys
from axiom_bench.run.executors import Executor, Future
from axiom_bench.run.job import chosen
from axiom_bench.run.notes import note_lines, warning_lines
from axiom_bench.run.progress import Estimate, progress
from axiom_bench.run.result import Ending, Failure, JobResult, PreparedJob, ShardResult, sums
from axiom_bench.run.worker import Task, finish, forget, prepare

MAX_JOBS = 5  # a printed line lists at most this many jobs by name


def configuration(overrides: Sequence[str], config_folder: Path | None = None) -> dict[str, Any]:
    """Return the configuration of a command line, before it is divided into jobs. Raise BenchError
    if it is invalid.
    """
    with composed(overrides, config_folder) as composition:
        return composition.plain()


def checked(
    config: Mapping[str, object],
) -> tuple[Settings, tuple[AnyPlugin, ...], tuple[AnyPlugin, ...]]:
    """Check a configuration. Return the settings of all jobs, the methods and the metrics, or raise
    BenchError.
    """
    add_current_folder()
    check_keys(config, base_keys())
    settings = Settings.of(config)
    executors.checked(settings.executor)
    methods = chosen("method", settings.method)
    metrics = chosen("metric", settings.metric)
    pictures = settings.pictures
    if pictures.rows and pictures.perturbation not in (None, *settings.metric):
        plugins.load("metric", pictures.perturbation)  # raises BenchError for an unknown name
    return settings, methods, metrics


def run(
    composition: Composition,
    settings: Settings,
    continue_run: bool = False,
    estimate: Estimate | None = None,
) -> list[JobResult]:
    """Run the jobs of a command line and return their results in order, each job once.

    Args:
        composition: The composed command line, which yields a configuration per job.
        settings: The checked settings of all jobs.
        continue_run: Reuse values that the previous command computed with user plug-ins.
        estimate: The estimate of the remaining time that several command lines of one command
            share. By default, the estimate covers only these jobs.

    Raises:
        BenchError: If the run folder can't be written.
    """
    with _open_folder(settings) as folder:
        overrides = list(composition.overrides)
        command = running.command_to_continue(folder, overrides, continue_run) or uuid4().hex
        command_facts = {  # a reader of an unfinished run has no other source for them
            "experiment": settings.experiment,
            "run": settings.run,
            "overrides": overrides,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "config": settings.model_dump(),
            "jobs": len(composition.jobs),
            "command": command,
        }
        running.begin_command(folder, command_facts)
        with executors.opened(settings.executor, folder) as executor:
            notes: dict[str, list[str]] = {}
            results: list[JobResult] = []
            estimate = estimate or Estimate(len(composition.jobs))
            for config in composition.job_configs():
                estimate.jobs -= 1
                results.append(run_job(config, command, executor, notes, estimate))
            results = _distinct(results)
        # the report that follows can't reuse the memory of the forward passes
        return_freed_memory()
        _print_shared(notes)
        shards = sum(len(result.shards) for result in results)
        cached_shards = shards - sum(result.computed.shards for result in results)
        if cached_shards:
            ending = ": nothing was computed" if cached_shards == shards else ""
            _print(f"{cached_shards} of {shards} shards were already there{ending}")
        return results


@contextmanager
def _open_folder(settings: Settings) -> Iterator[Path]:
    """Lock the run folder, check that it is writable and has this version's format, and yield its
    path.
    """
    folder = settings.run_folder
    files.ensure_writable(folder)
    artefacts.check_format(folder)
    with running.hold_lock(folder):
        files.sweep(folder)
        yield folder


def run_job(
    config: DictConfig,
    command: str,
    executor: Executor,
    notes: dict[str, list[str]],
    estimate: Estimate | None = None,
) -> JobResult:
    """Prepare, compute and finish one job. If it fails, the result has the failure, and the other
    jobs still run.

    Args:
        config: The job's configuration, whose interpolations aren't resolved yet.
        command: The command's id.
        executor: The executor that runs the tasks of the job.
        notes: {sentence: names of the jobs that have it}. The job is added to each of its
            sentences. A sentence that an earlier job has isn't printed again.
        estimate: The estimate of the command's remaining time.
    """
    try:
        resolved: Any = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
        task = Task(uuid4().hex, command, Settings.of(resolved))
        prepared: PreparedJob = _run_task(executor, prepare, task)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - one job's defect must not stop the other jobs
        forget()
        return JobResult(str(OmegaConf.select(config, "model.name")), failure=Failure.of(error))
    settings = task.settings.model_copy(update={"target": prepared.target})
    begun = JobResult.begun(prepared, settings)
    entry = manifest.job_manifest(begun)
    announced = AnnouncedJob.model_validate({**entry.model_dump(), "shards": prepared.shards})
    try:
        running.announce(task.folder, prepared.job, announced)
        _print_notes(prepared, notes)
        task = replace(task, answers=prepared.answers)
        result = _compute_missing(task, prepared, begun, executor, estimate or Estimate(0))
        record_files.remove(task.folder, prepared.damaged)
        ending: Ending = _run_task(executor, finish, task)
        result = _add_ending(prepared, result, ending)
        running.announce(task.folder, prepared.job, manifest.job_manifest(result))
    except (Exception, SystemExit) as error:  # noqa: BLE001 - one job's defect must not stop the other jobs
        failure = Failure.of(error)
        failure_entry = FailureEntry(job=prepared.job, message=failure.message)
        failed = announced.model_copy(update={"failures": [failure_entry]})
        with suppress(BenchError):  # if the disk is full, the failure already says so
            running.announce(task.folder, prepared.job, failed)
        return JobResult(str(settings.model["name"]), failure=failure)
    finally:
        forget()
    return result


def _run_task(executor: Executor, function: Callable[..., object], task: Task) -> Any:
    """Have the executor run a function of `run.worker`, and return its result."""
    return _receive(task, parcels.submit(executor, function, task))


def _receive(task: Task, future: Future) -> Any:
    """Wait for a task, write the files that it returns into the run folder, and return its
    result.

    Raises:
        Failure: If the task has raised an error.
        BenchError: If the engine has raised an error, or a file can't be written.
    """
    return parcels.received(task, executors.result(future, task.settings.executor))


def _print_notes(prepared: PreparedJob, notes: dict[str, list[str]]) -> None:
    """Print what is known before the first batch of a job, except sentences that an earlier job
    has.
    """
    _print(*prepared.notes.sentences(MachineNote))
    examination = [answer.sentence for answer in prepared.answers if answer.level == "note"]
    for sentence in (*prepared.notes.sentences(NotFiniteMaps), *examination):
        if sentence not in notes:
            _print(f"{prepared.job}: {sentence}")
        notes.setdefault(sentence, []).append(prepared.job)


def _compute_missing(
    task: Task,
    prepared: PreparedJob,
    begun: JobResult,
    executor: Executor,
    estimate: Estimate,
) -> JobResult:
    """Compute the missing shards and return the updated result. Stop at the first failure.

    If a plug-in has changed data that other plug-ins read, remove the record files that this
    command has written.
    """
    if not prepared.missing:
        return begun
    _print(*(f"{prepared.job}: {cost}" for cost in prepared.costs))
    start = time.perf_counter()
    estimate.images = estimate.jobs * sum(prepared.shards.values())
    missing_images = sum(prepared.shards[key] for key in prepared.missing)
    computed = ShardResult()
    title = f"{prepared.job}: computing maps and metrics"
    with progress(title, missing_images, estimate=estimate, noun=prepared.noun) as display:
        futures = parcels.submit_parts(executor, task, prepared.missing)
        images_done = 0
        try:
            for future in parcels.arriving(futures):
                part: ShardResult = _receive(task, future)
                printed = (prepared.notes + computed.notes).sentences(MachineNote)
                for sentence in part.notes.sentences(MachineNote):
                    if sentence not in printed:
                        _print(sentence)
                computed += part
                images_done += prepared.shards[futures[future]]
                # a local worker has advanced it already
                display.advance(images_done - display.done)
        except BaseException as error:
            for future in futures:
                future.cancel()
            if getattr(error, "is_tainted", False):
                record_files.remove(task.folder, computed.written)
            raise
    return replace(begun, computed=computed, wall=time.perf_counter() - start)


def _add_ending(prepared: PreparedJob, result: JobResult, ending: Ending) -> JobResult:
    """Return the result with the files, axes, times and notes that the last task of the job has
    added.
    """
    data = {}
    for name, entry in result.facts.data.items():
        data_notes = [*entry.notes, *ending.orientation_notes]
        data[name] = entry.model_copy(update={"notes": data_notes})
    notes = prepared.notes + result.computed.notes + ending.notes
    # Notes about the machine were printed when they arose.
    printed = (prepared.notes + result.computed.notes).sentences(MachineNote)
    other_lines = [line for line in note_lines(notes) if line not in printed]
    seconds_before = sums(result.seconds, result.computed.seconds)
    return replace(
        result,
        facts=result.facts.model_copy(update={"data": data}),
        lines=(*result.lines, *warning_lines(notes)),
        notes=(*other_lines, *ending.orientation_notes),
        seconds=sums(seconds_before, ending.seconds),
        files=ending.files,
        axes=ending.axes,
    )


def _print_shared(notes: Mapping[str, Sequence[str]]) -> None:
    """Print which jobs share printed notes with an earlier job, in one line per group of jobs."""
    note_counts = Counter(tuple(jobs) for jobs in notes.values())
    for (first, *others), count in note_counts.items():
        if others:
            verb = "holds" if count == 1 else "hold"
            _print(
                f"{first}: {count} of the notes above {verb} for {first_names(others, MAX_JOBS)} "
                "as well"
            )


def _print(*sentences: str) -> None:
    for sentence in sentences:
        for line in wrapped(sentence, line_width()):
            get_console().print(line, highlight=False, soft_wrap=True, markup=False)


def _distinct(results: Sequence[JobResult]) -> list[JobResult]:
    """Return each job once. Two jobs may be the same, for example with model.layer=default and the
    layer's own name.

    If jobs with the same name have different settings, all of them except the first fail, because
    the name couldn't distinguish their values.
    """
    first: dict[str, JobResult] = {}
    kept = []
    for result in results:
        if result.failure is not None or first.setdefault(result.job, result) is result:
            kept.append(result)
        elif _without_layer(result.config) != _without_layer(first[result.job].config):
            sentence = (
                "Another job has the same model name, layer and data name; give each its own name "
                "(name: NAME)."
            )
            kept.append(replace(result, failure=Failure(sentence)))
    return kept


def _without_layer(config: Mapping[str, Any]) -> dict[str, object]:
    """Return a job's configuration without its layer. A name and `default` may mean the same."""
    model = {key: value for key, value in config["model"].items() if key != "layer"}
    return {**config, "model": model}
