"""A job as tasks that any process can do: its preparation, its shards in parts, its end.

A task is its arguments, plain data: to do it twice is harmless, since files are named by what decides their values. A
process that does one loads the job by itself, and keeps it for the next. What goes wrong is returned, not raised.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache, wraps
from importlib import import_module
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from omegaconf.errors import OmegaConfBaseException

from axiom_bench.cutting.trace import CutModel
from axiom_bench.data.base import FileHashes
from axiom_bench.data.registry import load_dataset
from axiom_bench.errors import BenchError, is_out_of_memory
from axiom_bench.evaluation.plugins import required
from axiom_bench.evaluation.purity import Interference
from axiom_bench.records import artefacts, files, mirror, remote
from axiom_bench.run import manifest
from axiom_bench.run.composing.settings import add_current_folder
from axiom_bench.run.computing import compute
from axiom_bench.run.computing.compute import Computed, Step, Stored
from axiom_bench.run.inputs import fetching
from axiom_bench.run.inputs.remote_files import RemoteFile
from axiom_bench.run.jobs.facts import Facts
from axiom_bench.run.jobs.job import Shard
from axiom_bench.run.jobs.ready import ReadyJob, loaded
from axiom_bench.run.manifest import Failure, Outcome
from axiom_bench.run.notes import Notes, collected
from axiom_bench.run.progress import advance, progress

START, WRITING = "start", "writing"
TITLES = {START: "model and data", "whole data set": "values of the whole data set"}  # of stages, while they go on
Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Task:
    """A job of one command. id: of this job in this command alone. command: which counts in the keys of users' own
    plug-ins. config: resolved."""

    id: str
    command: str
    config: dict[str, Any] = field(compare=False)

    @property
    def folder(self) -> Path:
        """The run's folder, here."""
        return run_folder(self.config)

    @property
    def name(self) -> str:
        """The model's, until the job has one of its own."""
        return str((self.config.get("model") or {}).get("name"))


@dataclass(frozen=True)
class Plan:
    """A job that is prepared. begun: what is known of it before a value is computed. shards: {key: number of images} of
    all its shards; missing: keys of those that lack values. damaged: files. cost: what it costs, a sentence. images:
    {key: ids}, of a data set in a store, and all its files, by name."""

    begun: Outcome
    shards: Mapping[str, int]
    missing: Sequence[str]
    damaged: Sequence[str]
    cost: str | None
    lines: Sequence[str]
    notes: Notes
    images: Mapping[str, Sequence[str]]
    files: Mapping[str, RemoteFile]
    batch_rows: int

    def excerpt(self, keys: Sequence[str]) -> Excerpt | None:
        """What another machine needs for these shards; None: all of the data."""
        if not self.files:
            return None
        images = [name for key in keys for name in self.images[key]]
        return Excerpt({name: self.files[name] for name in map(self._file, images)}, images, self.batch_rows)

    def _file(self, image: str) -> str:
        """The name of the file that an image is in, with which its id begins."""
        while image not in self.files:
            image = image.rpartition("/")[0]
        return image


@dataclass(frozen=True)
class Excerpt:
    """What a part needs of a data set in a store. files: by name; images: ids. batch_rows: of the whole job."""

    files: Mapping[str, RemoteFile]
    images: Sequence[str]
    batch_rows: int


@dataclass(frozen=True)
class Part:
    """What a task computed of a job's shards. written: record files."""

    computed: Computed
    written: Sequence[str]
    notes: Notes


def run_folder(config: Mapping[str, Any]) -> Path:
    """Where a run's files are: <results>/<experiment>/<run>; of results in a store, the mirror on this machine."""
    return remote.folder_of(str(config["results"])) / str(config["experiment"]) / str(config["run"])


def _returning_failures(
    task_function: Callable[Concatenate[Task, Arguments], Result],
) -> Callable[Concatenate[Task, Arguments], Result | Failure]:
    @wraps(task_function)
    def returning(task: Task, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result | Failure:
        add_current_folder()
        try:
            return task_function(task, *args, **kwargs)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - one job's defect must not stop the sweep's other jobs
            return failure(task.name, error)

    return returning


def failure(job: str, error: BaseException) -> Failure:
    """What an error is to the user."""
    is_tainted = isinstance(error, Interference)
    if isinstance(error, BenchError):
        return Failure(job, str(error), mendable=True, is_tainted=is_tainted)
    if isinstance(error, OmegaConfBaseException):
        return Failure(job, str(error).split("\n")[0], mendable=True)
    if is_out_of_memory(error):  # where no pass is to be halved, as in moving a network to its device
        first_line = str(error).strip().partition("\n")[0]
        return Failure(job, f"Out of memory ({first_line}); free some, or use another machine.", mendable=True)
    plugin_notes = getattr(error, "__notes__", [])  # which plug-in raised it: the user can mend that
    message = ", ".join([f"{type(error).__name__}: {error}", *plugin_notes])
    return Failure(job, message, bool(plugin_notes), "".join(traceback.format_exception(error)), is_tainted)


@lru_cache(maxsize=1)
def _on_first_excerpt(task: Task, batch_rows: int) -> tuple[Facts, CutModel]:
    """The job on the first excerpt that a process has of it; network, methods and metrics are those of all others."""
    job, cut_model = loaded(task.config, task.folder)
    job = replace(compute.decided(job, cut_model), batch_rows_of_all=batch_rows)
    return Facts(job, task.command), cut_model


def _on_excerpt(task: Task, excerpt: Excerpt) -> tuple[Facts, CutModel]:
    """The job on a part of a data set in a store, of which nothing else is fetched."""
    fetching.fetch(list(excerpt.files.values()))
    data = {**task.config["data"], "path": {name: str(file.copy) for name, file in excerpt.files.items()}, "size": None}
    facts, cut_model = _on_first_excerpt(replace(task, config={**task.config, "data": data}), excerpt.batch_rows)
    dataset = load_dataset(fetching.here(data), lambda: facts.job.model.named_classes)
    places = {name: place for place, name in enumerate(dataset.ids)}
    indices = tuple(places[name] for name in excerpt.images)
    return facts.on(replace(facts.job, data=dataset, indices=indices, hashes=FileHashes())), cut_model


@lru_cache(maxsize=1)
def _ready(task: Task) -> tuple[ReadyJob, Facts]:
    """The job loaded, on its images, and its keys: by the first task of it that a process does."""
    job, cut_model = loaded(task.config, task.folder)
    ready = ReadyJob.of(job, cut_model, bool(task.config["data"].get("only_correct")), task.folder)
    facts = Facts(ready.job, task.command)
    _ = facts.values  # of now, before anything is computed
    return ready, facts


@_returning_failures
def prepare(task: Task) -> Plan:
    """Loads and checks the job, hashes its images, and tells what is missing."""
    seconds: dict[str, float] = {}
    forget()
    config = task.config
    with collected() as notes, stage(seconds, task.name, START):
        ready, facts = _ready(task)
        unfrozen: list[str] = []
        if config["suite_part"] is not None:
            from axiom_bench.run.composing import suites  # here: most runs are of none

            unfrozen = suites.check(config["suite_part"], ready.job, config["metric"])
        about = manifest.facts(ready)
        about["data"][ready.job.data.name]["notes"] += unfrozen
        shards, damaged = compute.missing(facts, task.folder)
        budget = config["metrics"]["max_forwards_per_image"]
        cost = compute.cost(ready.job, ready.cut_model, shards.values(), budget) if shards else None
        mirror.push(task.folder)
    counts = len(ready.job.indices), ready.left_out, len(ready.job.shards)
    config = {**config, "target": ready.job.target}  # which the data decide where it is null
    begun = Outcome(ready.job.name, config, about, *counts, Stored(values=facts.values), seconds=seconds)
    lengths = {facts.shard(shard): len(shard) for shard in ready.job.shards}
    lines = (*ready.lines(), *unfrozen)
    in_store = (
        {}
        if "other_images" in required((*ready.job.methods, *ready.job.metrics))
        else fetching.in_store(config["data"])
    )
    ids = ready.job.data.ids
    images = {key: [ids[index] for index in shard] for key, shard in shards.items()} if in_store else {}
    return Plan(begun, lengths, tuple(shards), damaged, cost, lines, notes, images, in_store, ready.job.batch_rows)


@_returning_failures
def compute_part(task: Task, keys: Sequence[str], excerpt: Excerpt | None = None) -> Part:
    """Computes what is missing of the shards with these keys. excerpt: what to fetch of data in a store; None: all."""
    with collected() as notes:
        shards: dict[str, Shard] = {}
        if excerpt is not None:
            facts, cut_model = _on_excerpt(task, excerpt)
            shards = {facts.shard(shard): shard for shard in facts.job.shards}
        if not shards.keys() >= set(keys):  # also of an excerpt from which the classes can't be told
            ready, facts = _ready(task)
            shards, cut_model = {facts.shard(shard): shard for shard in ready.job.shards}, ready.cut_model
        if not shards.keys() >= set(keys):
            raise BenchError(
                f"{files.host()} has other versions of packages, code or images than the machine that prepared "
                f"{facts.job.name}, so its values would be others; make them the same there, and run the command again."
            )
        start = time.perf_counter()
        wanted = {key: shards[key] for key in keys}
        computed, written = compute.compute_shards(facts, cut_model, wanted, task.folder, advance)
        rest = time.perf_counter() - start - sum(computed.seconds.values())
        seconds = {**computed.seconds, WRITING: max(0.0, rest)}
    return Part(replace(computed, seconds=seconds), written, notes)


@_returning_failures
def finish(task: Task, plan: Plan, computed: Computed, notes: Notes) -> Outcome:
    """What is made of a job when its records are there: values of the whole data set, run times, pictures."""
    mirror.pull(task.folder)
    begun = plan.begun
    seconds = {**begun.seconds, **computed.seconds}
    with collected() as more:
        ready, facts = _ready(task)
        stored = compute.stored(facts, task.folder)
        made = {"records": tuple(stored.records), "curves": tuple(stored.curves)}
        step = Step(facts, ready.cut_model, begun.config, task.folder, stored.as_dict())
        for kind, writer in artefacts.steps().items():
            module = import_module(writer)
            with stage(seconds, begun.job, module.STAGES[kind]):
                made[kind] = getattr(module, f"ensure_{kind}")(step)
    for image, is_upright in stored.turned.items():
        (notes.turned if is_upright else notes.as_stored)[image] = None
    notes = notes + more
    for data in begun.facts["data"].values():
        data["notes"] += notes.of_orientations()
    mirror.push(task.folder)
    forget()
    lines = (*plan.lines, *notes.lines())
    return replace(begun, stored=stored, files=made, computed=computed, seconds=seconds, notes=lines)


def forget() -> None:
    """Frees the job that this process keeps."""
    _ready.cache_clear()
    _on_first_excerpt.cache_clear()


@contextmanager
def stage(seconds: dict[str, float], job: str, name: str) -> Iterator[None]:
    """The time inside is added to {stage: seconds}. A stage may go on later."""
    begun = time.perf_counter()
    with progress(f"{job}: {TITLES.get(name, name)}"):
        yield
    seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - begun
