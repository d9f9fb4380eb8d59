"""The three tasks of a worker: prepare a job, compute one of its shards, finish it.

A process that runs a task loads the job itself, computes the job's keys, and keeps both for the
next task. Running a task twice is harmless, since the name of a file depends on everything that
decides its values.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path

from axiom_bench.data.mosaic import MosaicImages
from axiom_bench.environment import add_current_folder, keep_freed_memory
from axiom_bench.errors import BenchError
from axiom_bench.examination.examine import Answer
from axiom_bench.records import artefacts, files
from axiom_bench.records.entries import JobEntry
from axiom_bench.run import choosing, images, manifest, shards
from axiom_bench.run.composing.settings import Settings
from axiom_bench.run.examining import examined, mates
from axiom_bench.run.job import OBJECT_RULES, Job, keep_hashes, read_hashes
from axiom_bench.run.keys import Keys
from axiom_bench.run.notes import kernel_notes, orientation_lines
from axiom_bench.run.progress import advance, progress
from axiom_bench.run.result import Ending, PreparedJob, ShardResult

START = "start"
WRITING = "writing"
TITLES = {  # what the progress says while a stage runs
    START: "loading the model and data",
    "whole data set": "computing values of the whole data set",
    "run times": "measuring run times",
    "pictures": "saving pictures",
}


@dataclass(frozen=True)
class Task:
    """A job of one command."""

    id: str
    """The id of this job in this command. No other job of any command has it."""
    command: str
    """The id of the command, which is part of the keys of users' own plug-ins."""
    settings: Settings = field(compare=False)
    """The settings of the job."""
    answers: tuple[Answer, ...] = field(default=(), compare=False)
    """The answers of the examination, once the job is prepared."""

    @property
    def folder(self) -> Path:
        """The run folder in which this process works."""
        return self.settings.run_folder


def prepare(task: Task) -> PreparedJob:
    """Load and check the job, hash its images, and find the shards that lack values."""
    settings = task.settings
    seconds: dict[str, float] = {}
    unfrozen: list[str] = []
    forget()
    with kernel_notes() as torch_notes, stage(seconds, str(settings.model.get("name")), START):
        keys = _cached_keys(task)
        job = keys.job
        if settings.suite_part is not None:
            from axiom_bench.run import frozen  # most runs belong to no suite

            unfrozen = frozen.check(settings.suite_part, job, settings.metric)
        facts = manifest.facts(job)
        data_notes = facts.data[job.data.name].notes
        data_notes.extend(unfrozen)
        missing, damaged = shards.missing(keys, task.folder)
        costs = shards.announced(keys, missing, task.folder) if missing else ()
        answers = examined(keys, task.folder, bool(missing))
        data_notes.extend(answer.sentence for answer in answers if answer.level == "note")
    return PreparedJob(
        job=job.name,
        target=job.target,
        facts=facts,
        images=len(job.indices),
        noun=job.model.noun,
        left_out=job.left_out,
        shards={keys.shard(shard): len(shard) for shard in job.shards},
        missing=tuple(missing),
        costs=costs,
        damaged=damaged,
        lines=(*job.lines(), *unfrozen),
        notes=job.notes + torch_notes,
        seconds=seconds,
        values=keys.values,
        answers=answers,
    )


def compute_part(task: Task, key: str) -> ShardResult:
    """Compute the missing values of the shard with this key.

    Raise BenchError if this machine computes other keys than the machine that prepared the job.
    """
    with kernel_notes() as torch_notes:
        keys = _cached_keys(task)
        shard_by_key = {keys.shard(shard): shard for shard in keys.job.shards}
        if key not in shard_by_key:
            raise BenchError(
                f"{files.host()} has other versions of packages, code or images than the machine "
                f"that prepared {keys.job.name}, so its values would be others; make them the "
                "same there, and run the command again."
            )
        start = time.perf_counter()
        part = shards.compute_shard(keys, key, shard_by_key[key], task.folder, advance)
        untimed_seconds = time.perf_counter() - start - sum(part.seconds.values())
    seconds = {**part.seconds, WRITING: max(0.0, untimed_seconds)}
    return replace(part, notes=keys.job.notes + torch_notes, seconds=seconds)


def finish(task: Task) -> Ending:
    """Compute what needs all records of a job: values of the whole data set, run times,
    pictures.
    """
    seconds: dict[str, float] = {}
    with kernel_notes() as torch_notes:
        keys = _cached_keys(task)
        stored, turned = shards.stored(keys, task.folder)
        files_by_kind = {kind: tuple(stored[kind]) for kind in ("records", "curves")}
        entry = JobEntry(job=keys.job.name, records=stored["records"], values=keys.values)
        for kind, writer in artefacts.writer_by_kind().items():
            module = import_module(writer)
            with stage(seconds, keys.job.name, module.STAGES[kind]):
                ensure = getattr(module, f"ensure_{kind}")
                files_by_kind[kind] = ensure(keys, entry)
    forget()
    return Ending(
        files=files_by_kind,
        axes=stored["axes"],
        orientation_notes=tuple(orientation_lines(turned)),
        seconds=seconds,
        notes=keys.job.notes + torch_notes,
    )


_keys_by_task: dict[str, Keys] = {}  # at most one entry: the job that this process keeps


def forget() -> None:
    """Free the job that this process keeps."""
    _keys_by_task.clear()


def loaded(settings: Settings) -> Job:
    """Load the job of these settings. Raise BenchError if something is missing or doesn't fit."""
    add_current_folder()
    keep_freed_memory()
    return Job.of(settings)


def with_chosen_images(job: Job, command: str = "") -> Job:
    """Return a loaded job on the images to explain, with its users' own plug-ins proved.

    Args:
        job: A loaded job.
        command: The id of the command, see `Keys`.

    Raises:
        BenchError: If no image is left.
    """
    folder = job.settings.run_folder
    job = replace(job, hashes=read_hashes(folder, job.notes))
    # The images of mosaics are only read one by one if the model has to be confident about each of
    # them.
    if not isinstance(job.data, MosaicImages) or job.data.confidence is not None:
        images.announce(job)
    if isinstance(job.data, MosaicImages):
        job = choosing.use_mosaics(job, job.data, folder)
    job = replace(job, all_indices=job.indices)
    if job.settings.data.get("only_correct"):
        job = choosing.only_correct(job, folder)
    if job.target in OBJECT_RULES:
        from axiom_bench.run.objects import use_found_objects  # most networks find no objects

        job = use_found_objects(job, folder)
    job = shards.decided(job, command)
    keep_hashes(job, folder)
    return job


def _cached_keys(task: Task) -> Keys:
    """Return the keys of a task's job, and with them the job. The first task of a job in a process
    loads both.
    """
    if task.id not in _keys_by_task:
        forget()
        job = loaded(task.settings)
        job.cut_model.mates = mates(task.answers)
        keys = Keys(with_chosen_images(job, task.command), task.command)
        _ = keys.values  # hashes files and code as they are now, before anything is computed
        _keys_by_task[task.id] = keys
    return _keys_by_task[task.id]


@contextmanager
def stage(seconds: dict[str, float], job: str, name: str) -> Iterator[None]:
    """Show the stage while the block runs, and add its time to `seconds`, which the manifest
    stores. A stage may have several blocks.
    """
    begun = time.perf_counter()
    with progress(f"{job}: {TITLES.get(name, f'writing {name}')}"):
        yield
    seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - begun
