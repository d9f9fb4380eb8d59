"""One job of a sweep, from its configuration to what it leaves in the run folder, with its warnings and its seconds."""

from __future__ import annotations

import logging
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich import get_console
from rich.console import Console

from axiom_bench.data.loading import orientations
from axiom_bench.errors import BenchError, is_out_of_memory
from axiom_bench.evaluation.batch import MethodLeftOut, ZeroMaps
from axiom_bench.evaluation.method_costs import MethodNotTimed
from axiom_bench.records import artefacts, claims, mirror, remote, running
from axiom_bench.records.files import DamagedFile
from axiom_bench.run import manifest
from axiom_bench.run.composing import launchers
from axiom_bench.run.composing.settings import add_current_folder, recording
from axiom_bench.run.computing import compute
from axiom_bench.run.computing.compute import START, Step
from axiom_bench.run.inputs.images import SUFFIX
from axiom_bench.run.jobs.facts import Facts
from axiom_bench.run.jobs.ready import ReadyJob, loaded
from axiom_bench.run.manifest import Failure, Outcome
from axiom_bench.run.progress import progress

WRITING = "writing"
# While they go on:
TITLES = {START: "model and data", WRITING: "values", "whole data set": "values of the whole data set"}
CACHE = "data.cache"
DATA = logging.getLogger("axiom_bench.data")
BAD_IMAGES = logging.getLogger("axiom_bench.bad_images")
MACHINE = logging.getLogger("axiom_bench.machine")


def execute(config: DictConfig, share: bool = False) -> Outcome:
    """Runs a job. A failure is an outcome too, so that the other jobs of the sweep go on; it raises what a launcher's
    signal handler does, which ends the job. share: computes shards alone, and none that another process is at."""
    add_current_folder()
    launchers.end_with_command()
    name = str(OmegaConf.select(config, "model.name"))
    with launchers.signals_apart():
        try:
            resolved: Any = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
            with recording(resolved):
                return _run(resolved, name, share)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - one job's defect must not stop the sweep's other jobs
            return Outcome(name, {}, failure=_failure(name, error))


def _failure(job: str, error: BaseException) -> Failure:
    if isinstance(error, BenchError):
        return Failure(job, str(error), mendable=True)
    if isinstance(error, OmegaConfBaseException):
        return Failure(job, str(error).split("\n")[0], mendable=True)
    if is_out_of_memory(error):  # where no pass is to be halved, as in moving a network to its device
        first_line = str(error).strip().partition("\n")[0]
        return Failure(job, f"Out of memory ({first_line}); free some, or use another machine.", mendable=True)
    plugin_notes = getattr(error, "__notes__", [])  # which plug-in raised it: the user can mend that
    message = ", ".join([f"{type(error).__name__}: {error}", *plugin_notes])
    return Failure(job, message, mendable=bool(plugin_notes), trace="".join(traceback.format_exception(error)))


def _run(config: dict[str, Any], name: str, share: bool) -> Outcome:
    seconds: dict[str, float] = {}
    folder = run_folder(config)
    with collected() as notes, claims.running(folder):
        with stage(seconds, name, START):
            job, cut_model = loaded(config, folder)
            config = {**config, "target": job.target}  # which the data decide where it is null
            ready = ReadyJob.of(job, cut_model, bool(config["data"].get("only_correct")), folder)
            facts = Facts(ready.job)
            unfrozen: list[str] = []
            if config["suite_part"] is not None:
                from axiom_bench.run.composing import suites  # here: most runs are of none

                unfrozen = suites.check(config["suite_part"], ready.job, config["metric"])
            counts = len(ready.job.indices), ready.left_out, len(ready.job.shards)
            about = {**manifest.facts(ready), "reads": facts.reads}  # what is known before a value is computed
            about["data"][ready.job.data.name]["notes"] += unfrozen
            begun = Outcome(ready.job.name, config, about, *counts, compute.Stored(values=facts.values))
            if not share:
                lengths = {facts.shard(shard): len(shard) for shard in ready.job.shards}
                running.announce(folder, begun.job, {**manifest.of_job(begun), "shards": lengths})
        with stage(seconds, name, WRITING) as parts:
            budget = config["metrics"]["max_forwards_per_image"]
            computed, records = compute.ensure(facts, ready.cut_model, folder, budget, share)
            parts.update(computed.seconds)
        if share:
            return replace(begun, computed=computed)
        for image, is_upright in records.turned.items():
            (notes.turned if is_upright else notes.as_stored)[image] = None
        files = {"records": records.records, "curves": records.curves}
        step = Step(facts, ready.cut_model, config, folder, records.as_dict())
        for kind, writer in artefacts.steps().items():
            module = import_module(writer)
            with stage(seconds, name, module.STAGES[kind]):
                files[kind] = getattr(module, f"ensure_{kind}")(step)
    lines = (*ready.lines(), *unfrozen, *facts.unknown(), *notes.lines())
    about = {**about, "reads": {**facts.reads, **records.reads}}
    for data in about["data"].values():
        data["notes"] += notes.of_orientations()
    ended = replace(begun, facts=about, stored=records, files=files, computed=computed, seconds=seconds, notes=lines)
    running.announce(folder, ended.job, manifest.of_job(ended))
    mirror.push(folder)
    return ended


def run_folder(config: dict[str, Any]) -> Path:
    """Where a run's files are: <results>/<experiment>/<run>; of results in a store, the mirror on this machine."""
    return remote.folder_of(str(config["results"])) / str(config["experiment"]) / str(config["run"])


@contextmanager
def stage(seconds: dict[str, float], job: str, name: str) -> Iterator[dict[str, float]]:
    """The time inside is added to {stage: seconds}, but for that of the parts, {name: seconds}, that are put into what
    this yields. A stage may go on later."""
    parts: dict[str, float] = {}
    begun = time.perf_counter()
    with progress(f"{job}: {TITLES.get(name, name)}"):
        yield parts
    rest = max(0.0, time.perf_counter() - begun - sum(parts.values()))
    for part, duration in (*parts.items(), (name, rest)):
        seconds[part] = seconds.get(part, 0.0) + duration


@dataclass
class Notes:
    """Messages, each once. left_out: about methods, and layers without gradients. bad_images and problems: about
    images that can't be read, and annotations, one for each image. turned, as_stored: the images with an EXIF
    orientation, by whether it is applied. machine: about memory that ran out and processes that died, which are
    printed at once too. damaged: paths of files."""

    left_out: dict[str, None] = field(default_factory=dict)
    bad_images: dict[str, None] = field(default_factory=dict)
    problems: dict[str, None] = field(default_factory=dict)
    turned: dict[str, None] = field(default_factory=dict)
    as_stored: dict[str, None] = field(default_factory=dict)
    machine: dict[str, None] = field(default_factory=dict)
    damaged: dict[str, None] = field(default_factory=dict)

    def lines(self) -> tuple[str, ...]:
        """Each sentence once; of bad images and the annotations' problems the count and the first; one of all damaged
        files."""
        counts = {
            "images can't be read": self.bad_images,
            "images have annotations that can't be used": self.problems,
        }
        damaged = [damaged_line(self.damaged)] if self.damaged else []
        return (*self.left_out, *_counted(counts), *self.of_orientations(), *damaged, *self.machine)

    def of_orientations(self) -> list[str]:
        """The count and the first of the images with an EXIF orientation, by what was done with it."""
        return _counted({
            "images are turned upright, as their EXIF orientation says": self.turned,
            "images aren't turned as their EXIF orientation says: annotations are in stored pixels": self.as_stored,
        })  # fmt: skip


def _counted(images: Mapping[str, Mapping[str, None]]) -> list[str]:
    return [f"{len(ids)} {what}, the first: {next(iter(ids))}" for what, ids in images.items() if ids]


def damaged_line(paths: Collection[str]) -> str:
    """How many files of a run folder were damaged, and of which kinds.

    >>> damaged_line(["run/records/a.parquet", "run/records/b.parquet", "run/image_hashes.json"])
    '3 damaged files are written anew: 2 in records, image_hashes.json'
    """
    folders = {artefact.place for artefact in artefacts.TABLE if artefact.suffixes}
    kinds: Counter[str] = Counter()
    for path in map(Path, paths):
        of_folder = path.parent.name if path.parent.name in folders else path.name
        kinds[CACHE if path.suffix == SUFFIX else of_folder] += 1
    parts = [kind if "." in kind and kind != CACHE else f"{count} in {kind}" for kind, count in kinds.items()]
    return f"{len(paths)} damaged file{'s are' if len(paths) > 1 else ' is'} written anew: {', '.join(parts)}"


@contextmanager
def collected() -> Iterator[Notes]:
    """Collects the notes of the code inside; other warnings are issued again when it ends."""
    notes = Notes()
    handlers = {DATA: _Handler(notes.problems), BAD_IMAGES: _Handler(notes.bad_images)}
    handlers |= {orientations[True]: _Handler(notes.turned), orientations[False]: _Handler(notes.as_stored)}
    handlers[MACHINE] = _Handler(notes.machine, get_console())
    propagated = {log: log.propagate for log in handlers}
    for log, handler in handlers.items():
        log.addHandler(handler)
        log.propagate = False
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            yield notes
    finally:
        for log, handler in handlers.items():
            log.removeHandler(handler)
            log.propagate = propagated[log]
        for warning in caught:
            if issubclass(warning.category, (MethodLeftOut, ZeroMaps)):
                notes.left_out[str(warning.message)] = None
            elif issubclass(warning.category, DamagedFile):
                notes.damaged[str(warning.message)] = None
            elif not issubclass(warning.category, MethodNotTimed):  # that method has a note as left out
                warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)


class _Handler(logging.Handler):
    def __init__(self, messages: dict[str, None], console: Console | None = None) -> None:
        super().__init__(logging.WARNING)
        self.messages, self.console = messages, console

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if self.console is not None and message not in self.messages:
            self.console.print(message, highlight=False, soft_wrap=True, markup=False)
        self.messages[message] = None
