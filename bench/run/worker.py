"""What a worker does of a job: its preparation, some of its shards, its end.

A process that does one of these loads the job by itself, computes its keys, and holds it for the next. To do one twice
is harmless, since files are named by what decides their values.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass, field, replace
from functools import partial
from importlib import import_module
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from axiom_bench.cutting.passes import by_halves
from axiom_bench.data.batch import Batch
from axiom_bench.data.mosaic import MosaicImages
from axiom_bench.errors import BenchError
from axiom_bench.evaluation.batch import traced
from axiom_bench.examination.examine import BATCH, Answer, examine
from axiom_bench.records import artefacts, files
from axiom_bench.run import choosing, images, manifest, shards
from axiom_bench.run.composing import settings
from axiom_bench.run.job import OBJECT_RULES, Job, keep_hashes, read_hashes, run_folder
from axiom_bench.run.keys import Keys
from axiom_bench.run.progress import advance, progress
from axiom_bench.run.result import Result, collected, joined, note_lines, orientation_lines

EXAMINED, MOST_BATCHES = 64, 3  # images, in batches, at most
START, WRITING = "start", "writing"
TITLES = {START: "model and data", "whole data set": "values of the whole data set"}  # of stages, while they go on


@dataclass(frozen=True)
class Task:
    """A job of one command. id: of this job in this command alone. command: which counts in the keys of users' own
    plug-ins. config: resolved. answers: of the examination, once the job is prepared."""

    id: str
    command: str
    config: dict[str, Any] = field(compare=False)
    answers: tuple[Answer, ...] = field(default=(), compare=False)

    @property
    def folder(self) -> Path:
        """The run's folder, here."""
        return run_folder(self.config)


def prepare(task: Task) -> Result:
    """Loads and checks the job, hashes its images, and tells what is missing."""
    config, seconds = task.config, dict[str, float]()
    forget()
    with collected() as notes, stage(seconds, str(config["model"].get("name")), START):
        keys = _of_job(task)
        job, unfrozen = keys.job, list[str]()
        if config["suite_part"] is not None:
            from axiom_bench.run.composing import suites  # here: most runs are of none

            unfrozen = suites.check(config["suite_part"], job, config["metric"])
        facts = manifest.facts(job)
        facts["data"][job.data.name]["notes"] += unfrozen
        missing, damaged = shards.missing(keys, task.folder)
        cost = shards.announced(keys, missing, task.folder) if missing else None
        answers = examined(keys, task.folder, bool(missing))
        facts["data"][job.data.name]["notes"] += [each.sentence for each in answers if each.level == "note"]
    return Result(
        job.name,
        {**config, "target": job.target},  # which the data decide where it is null
        facts,
        len(job.indices),
        job.left_out,
        {keys.shard(shard): len(shard) for shard in job.shards},
        tuple(missing),
        cost,
        damaged,
        (*job.lines(), *unfrozen),
        notes,
        seconds=seconds,
        values=keys.values,
        answers=answers,
    )


def examined(keys: Keys, folder: Path, is_needed: bool) -> tuple[Answer, ...]:
    """What an examination found of the job's network and data, kept in the run folder; () where there is none and none
    is needed. Raises BenchError for what makes all values meaningless."""
    path = folder / f"examination/{keys.step('examination', methods=False)}.json"
    content = files.read_json_or_none(path)
    if content is None and not is_needed:
        return ()
    answers = examination(keys.job) if content is None else tuple(Answer(*each) for each in content["answers"])
    if stops := [each.sentence for each in answers if each.level == "stop"]:
        raise BenchError(" ".join(stops))
    if content is None:
        files.write_json(path, {"answers": [*map(astuple, answers)]})
    return answers


def examination(job: Job) -> tuple[Answer, ...]:
    """The answers of `examine` on images drawn over the classes, a batch at a time, three at most; () where none can be
    read. Labels are no question where they aren't the model's, or its weights are random."""
    of_classes: dict[tuple[int, ...], list[int]] = {}
    for place in np.random.default_rng(0).permutation(len(job.indices)):
        index = job.indices[place]
        of_classes.setdefault(job.data.labels(index)[:1], []).append(index)
    drawn = [index for each in zip_longest(*of_classes.values()) for index in each if index is not None]
    drawn = drawn[: min(EXAMINED, MOST_BATCHES * job.batch_rows)]
    has_labels = job.target == "label" and job.shares_classes and not job.model.random_weights
    batch = images.first_batch(job if has_labels else replace(job, target="predicted"), drawn, len(drawn), ())
    if batch is None:
        return ()

    def answers(part: Batch, rows: int) -> tuple[Answer, ...]:
        others = [batch[start : start + rows] for start in range(len(part), len(batch), rows)]
        done = job.model.preprocessing
        normalisation = (done.mean, done.std) if done.shape is None else None
        return examine(partial(traced, job.cut_model, part), has_labels, job.class_names, others, normalisation)

    return next(by_halves(batch[: job.batch_rows], job.batch_rows, job.cut_model.limits, answers))


def mates(answers: Sequence[Answer]) -> str | None:
    """As `SplitModel.mates`, by the examination; None where there was none."""
    return next(("" if each.level == "ok" else each.sentence for each in answers if each.question == BATCH), None)


def compute_part(task: Task, wanted: Sequence[str]) -> Result:
    """Computes what is missing of the shards with these keys."""
    with collected() as notes:
        keys = _of_job(task)
        by_key = {keys.shard(shard): shard for shard in keys.job.shards}
        if not by_key.keys() >= set(wanted):
            raise BenchError(
                f"{files.host()} has other versions of packages, code or images than the machine that prepared "
                f"{keys.job.name}, so its values would be others; make them the same there, and run the command again."
            )
        start = time.perf_counter()
        part = shards.compute_shards(keys, {key: by_key[key] for key in wanted}, task.folder, advance)
        rest = time.perf_counter() - start - sum(part.seconds.values())
    return replace(part, notes=notes, seconds={**part.seconds, WRITING: max(0.0, rest)})


def finish(task: Task, result: Result) -> Result:
    """What is made of a job when its records are there: values of the whole data set, run times, pictures."""
    seconds = dict(result.seconds)
    with collected() as notes:
        keys = _of_job(task)
        stored, turned = shards.stored(keys, task.folder)
        made = {kind: tuple(stored[kind]) for kind in ("records", "curves")}
        entry = {"records": stored["records"], "values": keys.values}
        for kind, writer in artefacts.steps().items():
            module = import_module(writer)
            with stage(seconds, result.job, module.STAGES[kind]):
                made[kind] = getattr(module, f"ensure_{kind}")(keys, entry)
    notes, orientations = joined(result.notes, notes), orientation_lines(turned)
    for data in result.facts["data"].values():
        data["notes"] += orientations
    forget()
    lines = (*result.lines, *note_lines(notes), *orientations)
    return replace(result, files=made, axes=stored["axes"], seconds=seconds, notes=notes, lines=lines)


_held: dict[str, Keys] = {}  # the one job that this process holds, with its keys, by the task's id


def forget() -> None:
    """Frees the job that this process holds."""
    _held.clear()


def loaded(config: Mapping[str, Any]) -> Job:
    """Load the job of a configuration. Raises BenchError."""
    settings.add_current_folder()
    settings.check(config)
    settings.keep_freed_memory()
    return Job.of(config)


def on_its_images(job: Job, command: str = "") -> Job:
    """A loaded job on the images to explain, its users' own plug-ins proved. command: see `Keys`. Raises BenchError
    where none is left."""
    folder = run_folder(job.config)
    job = replace(job, hashes=read_hashes(folder))
    if not isinstance(job.data, MosaicImages) or job.data.confidence is not None:  # else they aren't read alone
        images.announce(job)
    if isinstance(job.data, MosaicImages):
        job = choosing.on_mosaics(job, job.data, folder)
    job = replace(job, all_indices=job.indices)
    if job.config["data"].get("only_correct"):
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
        job = loaded(task.config)
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
