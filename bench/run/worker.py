"""The three tasks of a worker: prepare a job, compute one of its shards, finish it.

A process that does one of these loads the job by itself, computes its keys, and holds it for the next. To do one twice
is harmless, since files are named by what decides their values.
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

START, WRITING = "start", "writing"
TITLES = {START: "model and data", "whole data set": "values of the whole data set"}  # of stages, while they go on


@dataclass(frozen=True)
class Task:
    """A job of one command.

    Attributes:
        id: Of this job in this command alone.
        command: It counts in the keys of users' own plug-ins.
        settings: The job's.
        answers: Of the examination, once the job is prepared.
    """

    id: str
    command: str
    settings: Settings = field(compare=False)
    answers: tuple[Answer, ...] = field(default=(), compare=False)

    @property
    def folder(self) -> Path:
        """The run's folder, here."""
        return self.settings.run_folder


def prepare(task: Task) -> PreparedJob:
    """Load and check the job, hash its images, and find what is missing."""
    settings = task.settings
    seconds: dict[str, float] = {}
    unfrozen: list[str] = []
    forget()
    with kernel_notes() as torch_notes, stage(seconds, str(settings.model.get("name")), START):
        keys = _of_job(task)
        job = keys.job
        if settings.suite_part is not None:
            from axiom_bench.run import frozen  # here: most runs are of no suite

            unfrozen = frozen.check(settings.suite_part, job, settings.metric)
        facts = manifest.facts(job)
        notes_on_data = facts.data[job.data.name].notes
        notes_on_data.extend(unfrozen)
        missing, damaged = shards.missing(keys, task.folder)
        cost = shards.announced(keys, missing, task.folder) if missing else None
        answers = examined(keys, task.folder, bool(missing))
        notes_on_data.extend(answer.sentence for answer in answers if answer.level == "note")
    return PreparedJob(
        job=job.name,
        target=job.target,
        facts=facts,
        images=len(job.indices),
        left_out=job.left_out,
        shards={keys.shard(shard): len(shard) for shard in job.shards},
        missing=tuple(missing),
        cost=cost,
        damaged=damaged,
        lines=(*job.lines(), *unfrozen),
        notes=job.notes + torch_notes,
        seconds=seconds,
        values=keys.values,
        answers=answers,
    )


def compute_part(task: Task, key: str) -> ShardResult:
    """Compute what is missing of the shard with this key."""
    with kernel_notes() as torch_notes:
        keys = _of_job(task)
        shard_by_key = {keys.shard(shard): shard for shard in keys.job.shards}
        if key not in shard_by_key:
            raise BenchError(
                f"{files.host()} has other versions of packages, code or images than the machine that prepared "
                f"{keys.job.name}, so its values would be others; make them the same there, and run the command again."
            )
        start = time.perf_counter()
        part = shards.compute_shard(keys, key, shard_by_key[key], task.folder, advance)
        rest = time.perf_counter() - start - sum(part.seconds.values())
    notes = keys.job.notes + torch_notes
    return replace(part, notes=notes, seconds={**part.seconds, WRITING: max(0.0, rest)})


def finish(task: Task) -> Ending:
    """Make what is made of a job when its records are there: values of the whole data set, run times, pictures."""
    seconds: dict[str, float] = {}
    with kernel_notes() as torch_notes:
        keys = _of_job(task)
        stored, turned = shards.stored(keys, task.folder)
        made = {kind: tuple(stored[kind]) for kind in ("records", "curves")}
        entry = JobEntry(job=keys.job.name, records=stored["records"], values=keys.values)
        for kind, writer in artefacts.steps().items():
            module = import_module(writer)
            with stage(seconds, keys.job.name, module.STAGES[kind]):
                made[kind] = getattr(module, f"ensure_{kind}")(keys, entry)
    forget()
    notes = keys.job.notes + torch_notes
    return Ending(made, stored["axes"], tuple(orientation_lines(turned)), seconds, notes)


_held: dict[str, Keys] = {}  # the one job that this process holds, with its keys, by the task's id


def forget() -> None:
    """Frees the job that this process holds."""
    _held.clear()


def loaded(settings: Settings) -> Job:
    """Load the job of these settings. Raises BenchError."""
    add_current_folder()
    keep_freed_memory()
    return Job.of(settings)


def on_its_images(job: Job, command: str = "") -> Job:
    """A loaded job on the images to explain, its users' own plug-ins proved. command: see `Keys`. Raises BenchError
    where none is left."""
    folder = job.settings.run_folder
    job = replace(job, hashes=read_hashes(folder, job.notes))
    if not isinstance(job.data, MosaicImages) or job.data.confidence is not None:  # else they aren't read alone
        images.announce(job)
    if isinstance(job.data, MosaicImages):
        job = choosing.on_mosaics(job, job.data, folder)
    job = replace(job, all_indices=job.indices)
    if job.settings.data.get("only_correct"):
        job = choosing.only_correct(job, folder)
    if job.target in OBJECT_RULES:
        from axiom_bench.run.objects import on_objects  # here: most networks find none

        job = on_objects(job, folder)
    job = shards.decided(job, command)
    keep_hashes(job, folder)
    return job


def _of_job(task: Task) -> Keys:
    """The job loaded, on its images, with its keys: by the first task of it that a process does."""
    if task.id not in _held:
        forget()
        job = loaded(task.settings)
        job.cut_model.mates = mates(task.answers)
        keys = Keys(on_its_images(job, task.command), task.command)
        _ = keys.values  # of now, before anything is computed
        _held[task.id] = keys
    return _held[task.id]


@contextmanager
def stage(seconds: dict[str, float], job: str, name: str) -> Iterator[None]:
    """The time inside is added to {stage: seconds}. A stage may go on later."""
    begun = time.perf_counter()
    with progress(f"{job}: {TITLES.get(name, name)}"):
        yield
    seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - begun
