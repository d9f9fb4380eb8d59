"""What a worker does of a job: its preparation, some of its shards, its end.

A process that does one of these loads the job by itself, computes its keys, and holds it for the next. To do one twice
is harmless, since files are named by what decides their values.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass, field, replace
from functools import partial
from importlib import import_module
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from axiom_bench.cutting.passes import by_halves
from axiom_bench.data.base import FileHashes
from axiom_bench.data.batch import Batch
from axiom_bench.data.mosaic import MosaicImages
from axiom_bench.errors import BenchError
from axiom_bench.evaluation.batch import traced
from axiom_bench.evaluation.plugins import Plugin, required
from axiom_bench.examination.examine import BATCH, Answer, examine
from axiom_bench.records import artefacts, files, mirror
from axiom_bench.run import choosing, fetching, images, isolated, manifest, shards
from axiom_bench.run.composing import settings
from axiom_bench.run.fetching import RemoteFile
from axiom_bench.run.job import OBJECT_RULES, Job, chosen, data_of, keep_hashes, read_hashes, run_folder
from axiom_bench.run.keys import Keys
from axiom_bench.run.progress import advance, progress
from axiom_bench.run.result import Result, collected, joined, note_lines, orientation_lines

EXAMINED, MOST_BATCHES = 64, 3  # images, in batches, at most
TIMED_ROWS = 8  # of the batch that an estimate times
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


@dataclass(frozen=True)
class Excerpt:
    """What a shard needs of a data set in a store. files: by name; images: ids. batch_rows: of the whole job."""

    files: Mapping[str, RemoteFile]
    images: Sequence[str]
    batch_rows: int


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
        budget = config["metrics"]["max_forwards_per_image"]
        cost = shards.cost(keys, missing, task.folder, budget) if missing else None
        answers = examined(keys, task.folder, bool(missing))
        facts["data"][job.data.name]["notes"] += [each.sentence for each in answers if each.level == "note"]
        mirror.push(task.folder)
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
        _in_store(keys, missing),
        (*job.lines(), *unfrozen),
        notes,
        seconds=seconds,
        values=keys.values,
        answers=answers,
    )


def computing_seconds(task: Task, missing: Sequence[str]) -> float:
    """Estimate the seconds that computing these shards takes: the counted passes times the time of a trace."""
    keys = _of_job(task)
    job = keys.job
    rows = sum(job.rows(shard) for shard in job.shards if keys.shard(shard) in missing)
    plugins = (*job.methods, *job.metrics)
    batch = images.first_batch(job, job.indices, min(job.batch_rows, TIMED_ROWS), required(plugins))
    if batch is None:
        return 0.0
    trace = next(by_halves(batch, len(batch), job.cut_model.limits, lambda part, _: traced(job.cut_model, part)))
    passes = 1 + shards.Cost.of(job.methods, job.metrics, trace).per_image
    if shards.needing_drops(job.methods, job.metrics):
        passes += trace.drops_cost
    start = time.perf_counter()
    traced(job.cut_model, batch[: len(trace)])
    seconds = time.perf_counter() - start
    return rows * passes * seconds / len(trace)


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


def compute_part(task: Task, wanted: Sequence[str], excerpts: Sequence[Excerpt] = ()) -> Result:
    """Computes what is missing of the shards with these keys. excerpts: what to fetch of data in a store; (): all."""
    with collected() as notes:
        loaders: list[Callable[[], Keys]] = [partial(_of_job, task)]
        if excerpts:  # from which the classes can't always be told: then all of the data is fetched
            loaders.insert(0, partial(_of_excerpts, task, excerpts))
        for load in loaders:
            keys = load()
            by_key = {keys.shard(shard): shard for shard in keys.job.shards}
            if by_key.keys() >= set(wanted):
                break
        else:
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
    mirror.pull(task.folder)
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
    mirror.push(task.folder)
    forget()
    lines = (*result.lines, *note_lines(notes), *orientations)
    return replace(result, files=made, axes=stored["axes"], seconds=seconds, notes=notes, lines=lines)


_held: dict[object, Keys] = {}  # the one job that this process holds, with its keys, by task


def held(place: object, load: Callable[[], Keys]) -> Keys:
    """What this process holds, once loaded; anything else is freed before."""
    if place not in _held:
        _held.clear()
        _held[place] = load()
    return _held[place]


def forget() -> None:
    """Frees the job that this process holds."""
    _held.clear()


def methods_of(config: Mapping[str, Any], isolate: bool = False) -> tuple[Plugin, ...]:
    """The configured methods; of a suite's run, or with `isolate`, users' own are in a process of their own. Raises
    BenchError as `chosen` does."""
    is_isolated = isolate or config["suite_part"] is not None
    return isolated.chosen_methods(config) if is_isolated else chosen("method", config)


def loaded(config: Mapping[str, Any], isolate: bool = False) -> Job:
    """The job of a configuration. isolate: see `methods_of`. Raises BenchError."""
    settings.add_current_folder()
    settings.check(config)
    mirror.pull(run_folder(config))
    settings.keep_freed_memory()
    return Job.of(config, methods_of(config, isolate))


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

    def load() -> Keys:
        job = loaded(task.config)
        job.cut_model.mates = mates(task.answers)
        keys = Keys(on_its_images(job, task.command), task.command)
        _ = keys.values  # of now, before anything is computed
        return keys

    return held(task.id, load)


def _of_excerpts(task: Task, excerpts: Sequence[Excerpt]) -> Keys:
    """The job on parts of a data set in a store, of which nothing else is fetched. Network, methods and metrics are
    those of the first part that the process had."""
    files_here = {name: file for excerpt in excerpts for name, file in excerpt.files.items()}
    fetching.fetch(list(files_here.values()))
    data = {**task.config["data"], "path": {name: str(file.copy) for name, file in files_here.items()}, "size": None}

    def load() -> Keys:
        job = loaded({**task.config, "data": data})
        job.cut_model.mates = mates(task.answers)
        job = shards.decided(job, task.command)
        return Keys(replace(job, batch_rows_of_all=excerpts[0].batch_rows), task.command)

    first = held((task.id, excerpts[0].batch_rows), load)
    dataset = data_of(task.config, data, lambda *_: first.job.model)
    places = {name: place for place, name in enumerate(dataset.ids)}
    indices = tuple(places[name] for excerpt in excerpts for name in excerpt.images)
    return first.on(replace(first.job, data=dataset, indices=indices, hashes=FileHashes()))


def _in_store(keys: Keys, missing: Mapping[str, Sequence[int]]) -> dict[str, Excerpt]:
    """{key: excerpt} of shards whose data are all in a store, but for a job that needs other images than a shard's."""
    job = keys.job
    in_store = fetching.in_store(job.config["data"])
    if not in_store or job.target in OBJECT_RULES or "other_images" in required((*job.methods, *job.metrics)):
        return {}

    def file_of(image: str) -> str:
        """The name of the file that an image is in, with which its id begins."""
        while image not in in_store:
            image = image.rpartition("/")[0]
        return image

    excerpts = {}
    for key, shard in missing.items():
        ids = [job.data.ids[index] for index in shard]
        excerpts[key] = Excerpt({name: in_store[name] for name in map(file_of, ids)}, ids, job.batch_rows)
    return excerpts


@contextmanager
def stage(seconds: dict[str, float], job: str, name: str) -> Iterator[None]:
    """The time inside is added to {stage: seconds}. A stage may go on later."""
    begun = time.perf_counter()
    with progress(f"{job}: {TITLES.get(name, name)}"):
        yield
    seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - begun
