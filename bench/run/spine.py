"""A run from top to bottom: a command line's jobs, each prepared, computed in shards and finished by an executor."""

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

from axiom_bench.environment import add_current_folder, return_freed_memory
from axiom_bench.errors import BenchError, first_names
from axiom_bench.evaluation import plugins
from axiom_bench.evaluation.plugins import Plugin
from axiom_bench.notes import MachineNote, NotFiniteMaps
from axiom_bench.records import artefacts, files, record_files, running
from axiom_bench.records.entries import AnnouncedJob, FailureEntry
from axiom_bench.run import executors, manifest, parcels
from axiom_bench.run.composing.composition import Composition, base_keys, composed
from axiom_bench.run.composing.settings import Settings, check_keys
from axiom_bench.run.executors import Executor, Future
from axiom_bench.run.job import chosen
from axiom_bench.run.notes import note_lines
from axiom_bench.run.progress import Estimate, progress
from axiom_bench.run.result import Ending, Failure, JobResult, PreparedJob, ShardResult, sums
from axiom_bench.run.worker import Task, finish, forget, prepare

MAX_JOBS = 5  # that a line names


def configuration(overrides: Sequence[str], config_folder: Path | None = None) -> dict[str, Any]:
    """Return what a command line configures, before it is spread over jobs. Raises BenchError."""
    with composed(overrides, config_folder) as composition:
        return composition.plain()


def checked(config: Mapping[str, Any]) -> tuple[Settings, tuple[Plugin, ...], tuple[Plugin, ...]]:
    """Return the settings that concern all jobs, the methods and the metrics, checked. Raises BenchError."""
    add_current_folder()
    check_keys(config, base_keys())
    settings = Settings.of(config)
    executors.checked(settings.executor)
    methods = chosen("method", settings.method)
    metrics = chosen("metric", settings.metric)
    pictures = settings.pictures
    if pictures.rows and pictures.perturbation not in settings.metric:
        plugins.load("metric", pictures.perturbation)  # which refuses an unknown name
    return settings, methods, metrics


def run(
    composition: Composition,
    settings: Settings,
    goes_on: bool = False,
    estimate: Estimate | None = None,
) -> list[JobResult]:
    """Run a command line's jobs and return their results in order, each job once.

    Args:
        settings: The checked settings of all jobs.
        goes_on: Reuse values that the previous command computed with user plug-ins.
        estimate: Of the time of a command that runs several command lines; otherwise it is of these jobs.

    Raises:
        BenchError: If the run folder can't be written.
    """
    with _open_folder(settings) as folder:
        overrides = list(composition.overrides)
        command = running.command_to_continue(folder, overrides, goes_on) or uuid4().hex
        about_command = {  # what a reader of the unfinished run needs to know of the whole command
            "experiment": settings.experiment,
            "run": settings.run,
            "overrides": overrides,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "config": settings.model_dump(),
            "jobs": len(composition.jobs),
            "command": command,
        }
        running.begin(folder, about_command)
        with executors.opened(settings.executor, folder) as executor:
            notes: dict[str, list[str]] = {}
            results: list[JobResult] = []
            estimate = estimate or Estimate(len(composition.jobs))
            for config in composition.job_configs():
                estimate.jobs -= 1
                results.append(run_job(config, command, executor, notes, estimate))
            results = _distinct(results)
        return_freed_memory()  # a report needs other memory than passes
        _print_shared(notes)
        shards = sum(len(result.shards) for result in results)
        if there := sum(len(result.shards) - result.computed.shards for result in results):
            _print(f"{there} of {shards} shards were already there" + ": nothing was computed" * (there == shards))
        return results


@contextmanager
def _open_folder(settings: Settings) -> Iterator[Path]:
    """Yield the run folder: of this format, writable and locked."""
    folder = settings.run_folder
    files.ensure_writable(folder)
    artefacts.check_format(folder)
    with running.held(folder):
        files.sweep(folder)
        yield folder


def run_job(
    config: DictConfig,
    command: str,
    executor: Executor,
    notes: dict[str, list[str]],
    estimate: Estimate | None = None,
) -> JobResult:
    """Prepare, compute and finish one job. A failure is in its result, so that the other jobs go on.

    Args:
        config: The job's configuration, in which nothing is filled in.
        command: The command's id.
        notes: The jobs of each sentence that was printed. A sentence that an earlier job had isn't printed again.
        estimate: Of the command's time.
    """
    try:
        resolved: Any = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
        task = Task(uuid4().hex, command, Settings.of(resolved))
        prepared: PreparedJob = _done(executor, prepare, task)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - one job's defect must not stop the other jobs
        forget()
        return JobResult(str(OmegaConf.select(config, "model.name")), failure=Failure.of(error))
    settings = task.settings.model_copy(update={"target": prepared.target})
    begun = JobResult.begun(prepared, settings)
    of_job = manifest.of_job(begun)
    announced = AnnouncedJob.model_validate({**of_job.model_dump(), "shards": prepared.shards})
    try:
        running.announce(task.folder, prepared.job, announced)
        _print_notes(prepared, notes)
        task = replace(task, answers=prepared.answers)
        result = _computed(task, prepared, begun, executor, estimate or Estimate(0))
        record_files.remove(task.folder, prepared.damaged)
        result = _finished(prepared, result, _done(executor, finish, task))
        running.announce(task.folder, prepared.job, manifest.of_job(result))
    except (Exception, SystemExit) as error:  # noqa: BLE001 - one job's defect must not stop the other jobs
        failure = Failure.of(error)
        entry = FailureEntry(job=prepared.job, message=failure.message)
        with suppress(BenchError):  # a disk that is full is told already
            running.announce(task.folder, prepared.job, announced.model_copy(update={"failures": [entry]}))
        return JobResult(str(settings.model["name"]), failure=failure)
    finally:
        forget()
    return result


def _done(executor: Executor, function: Callable[..., Any], task: Task) -> Any:
    """Return what a worker's function returns, with its files in the run folder. Raises as `executors.result`."""
    return _answer(task, parcels.submit(executor, function, task))


def _answer(task: Task, future: Future) -> Any:
    return parcels.received(task, executors.result(future, task.settings.executor))


def _print_notes(prepared: PreparedJob, notes: dict[str, list[str]]) -> None:
    """Print what is known before a job's first batch, but for sentences that an earlier job had."""
    _print(*prepared.notes.sentences(MachineNote))
    found = [answer.sentence for answer in prepared.answers if answer.level == "note"]
    for sentence in (*prepared.notes.sentences(NotFiniteMaps), *found):
        if sentence not in notes:
            _print(f"{prepared.job}: {sentence}")
        notes.setdefault(sentence, []).append(prepared.job)


def _computed(task: Task, prepared: PreparedJob, begun: JobResult, executor: Executor, estimate: Estimate) -> JobResult:
    """Return the result with the shards that were missing.

    After a failure no further shard is begun. If a plug-in has changed what others read, the files of this command are
    removed.
    """
    if not prepared.missing:
        return begun
    if prepared.cost is not None:
        _print(f"{prepared.job}: {prepared.cost}")
    start = time.perf_counter()
    estimate.images = estimate.jobs * sum(prepared.shards.values())
    missing_images = sum(prepared.shards[key] for key in prepared.missing)
    computed = ShardResult()
    with progress(prepared.job, missing_images, estimate=estimate) as shown:
        futures = parcels.submit_parts(executor, task, prepared.missing)
        images = 0
        try:
            for future in parcels.arriving(futures):
                part: ShardResult = _answer(task, future)
                printed = (prepared.notes + computed.notes).sentences(MachineNote)
                _print(*(sentence for sentence in part.notes.sentences(MachineNote) if sentence not in printed))
                computed += part
                images += prepared.shards[futures[future]]
                shown.advance(images - shown.done)
        except BaseException as error:
            for future in futures:
                future.cancel()
            if getattr(error, "is_tainted", False):
                record_files.remove(task.folder, computed.written)
            raise
    return replace(begun, computed=computed, wall=time.perf_counter() - start)


def _finished(prepared: PreparedJob, result: JobResult, ending: Ending) -> JobResult:
    """Return the result with what was made of the job at its end, and with what its workers have to say."""
    for data in result.facts.data.values():
        data.notes.extend(ending.turned)
    notes = prepared.notes + result.computed.notes + ending.notes
    return replace(
        result,
        lines=(*result.lines, *note_lines(notes), *ending.turned),
        seconds=sums(sums(result.seconds, result.computed.seconds), ending.seconds),
        files=ending.files,
        axes=ending.axes,
    )


def _print_shared(notes: Mapping[str, Sequence[str]]) -> None:
    """Print the jobs that share notes with an earlier job, in one line for the same jobs."""
    for (first, *others), count in Counter(map(tuple, notes.values())).items():
        if others:
            verb = "holds" if count == 1 else "hold"
            _print(f"{first}: {count} of the notes above {verb} for {first_names(others, MAX_JOBS)} as well")


def _print(*lines: str) -> None:
    for line in lines:
        get_console().print(line, highlight=False, soft_wrap=True, markup=False)


def _distinct(results: Sequence[JobResult]) -> list[JobResult]:
    """Return each job once: two may be the same, as with model.layer=default and the layer's own name.

    Of jobs with one name and different settings all but the first fail, since their values couldn't be told apart.
    """
    first: dict[str, JobResult] = {}
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
