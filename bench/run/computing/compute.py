"""The values of a job's shards: which are missing, their computation, and the record files that hold them."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

from axiom_bench.columns import LAYER
from axiom_bench.cutting.passes import by_halves
from axiom_bench.cutting.trace import CutModel, cut
from axiom_bench.data.base import BadImage
from axiom_bench.data.batch import Batch
from axiom_bench.data.loading import orientations
from axiom_bench.errors import BenchError
from axiom_bench.evaluation.batch import Columns, curve_frame, frame, holds_values, warn_of_silence
from axiom_bench.evaluation.plugins import Plugin, required, value_names
from axiom_bench.evaluation.proof import proved
from axiom_bench.evaluation.purity import Interference, watched_rate
from axiom_bench.evaluation.shard import MethodsByMetrics, shard_rows, traced
from axiom_bench.evaluation.stopwatch import Stopwatch, Watch
from axiom_bench.models.load import LoadedModel
from axiom_bench.records import files, holdings, mirror
from axiom_bench.records.holdings import RecordFile, Values
from axiom_bench.run.composing.settings import Device
from axiom_bench.run.computing import costs
from axiom_bench.run.inputs.images import first_batch, first_row, rows
from axiom_bench.run.jobs.facts import Facts
from axiom_bench.run.jobs.job import Job, Shard

Advance = Callable[[int], None]  # is told how many more images are done


@dataclass(frozen=True)
class Step:
    """What a job makes its further files of, when its records are there. config: the job's; folder: the run's; stored:
    the job's records as its entry in the manifest has them."""

    facts: Facts
    cut_model: CutModel
    config: Mapping[str, Any]
    folder: Path
    stored: Mapping[str, Any]


@dataclass(frozen=True)
class Computed:
    """What one command computed of a job: shards and images, the seconds of each part (see `evaluation.stopwatch`),
    wall clock and processor time of the whole loop over the shards. Also the passes of the model that were counted."""

    shards: int = 0
    images: int = 0
    seconds: Mapping[str, float] = field(default_factory=dict)
    wall: float = 0.0
    processor: float = 0.0
    passes: Mapping[str, int] = field(default_factory=dict)

    def __add__(self, other: Computed) -> Computed:
        """The work of two processes, side by side; the wall clock is the first one's."""
        seconds, passes = Counter(self.seconds), Counter(self.passes)
        seconds.update(other.seconds)
        passes.update(other.passes)
        shards, images, processor = (self.shards + other.shards, self.images + other.images,
                                     self.processor + other.processor)  # fmt: skip
        return Computed(shards, images, seconds, self.wall, processor, passes)

    def work(self) -> dict[str, float]:
        """The job's entry in the manifest's "work"; {} where nothing was computed. processor_seconds: of the loop, in
        all processes. Passes are counted in images, with the rows that pad a batch."""
        if not self.images:
            return {}
        rates = {"images_per_second": round(self.images / self.wall, 4)} if self.wall else {}
        return {"images": self.images, **rates, "processor_seconds": round(self.processor, 2), **self.passes}


@dataclass(frozen=True)
class Stored:
    """The files of a job's records, and the values to take from them: {method: {metric: key}}. turned: {id
    of an image with an EXIF orientation: whether it was applied}."""

    records: Sequence[str] = ()
    values: Values = field(default_factory=dict)
    curves: Sequence[str] = ()
    axes: dict[str, Any] = field(default_factory=dict)
    turned: Mapping[str, bool] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The entry of the job in the manifest, by which `records.reading` reads them."""
        return {"records": list(self.records), "values": self.values}


def cut_of(model: LoadedModel, device: Device) -> CutModel:
    """The model on the device, cut at its layer."""
    module, precisions = model.module.to(device.device), (device.precision, device.head_precision)
    memory, budget = device.ablation_memory, device.ablation_channels
    return cut(module, model.layer, *precisions, memory, model.reshape, model.output, budget)


def decided(job: Job, cut_model: CutModel) -> Job:
    """The job with its users' own plug-ins proved, and every method's scale known, on the first batch."""
    plugins = (*job.methods, *job.metrics)
    if all(method.spec.on_score_scale is not None for method in job.methods) and not any(p.is_foreign for p in plugins):
        return job
    first = next((batch for batch in rows(job, job.indices, required(plugins)) if isinstance(batch, Batch)), None)
    if first is None:  # no image can be read, so no method will be called
        return job

    def proof(part: Batch, _: int) -> tuple[list[Plugin], list[Plugin]]:
        return proved(job.methods, job.metrics, traced(cut_model, part), part)

    methods, metrics = next(by_halves(first, len(first), cut_model.limits, proof))
    return replace(job, methods=tuple(methods), metrics=tuple(metrics))


def missing(facts: Facts, folder: Path) -> tuple[dict[str, Shard], tuple[str, ...]]:
    """({key: shard} of the job's shards that lack values, names of files that are damaged)."""
    shards = {facts.shard(shard): shard for shard in facts.job.shards}
    held = holdings.read(folder, shards)
    for name in held.damaged:
        files.warn_damaged(folder / name)
    return {key: shard for key, shard in shards.items() if held.missing(key, facts.values)}, held.damaged


def compute_shards(
    facts: Facts, cut_model: CutModel, shards: Mapping[str, Shard], folder: Path, advance: Advance
) -> tuple[Computed, list[str]]:
    """Computes what is missing of these shards: what that was, and the files that were written. A shard that is there
    by now isn't computed again. advance: is told how many more images are done. Where a plug-in changes what others
    read, it raises Interference, and no file of these shards stays."""
    watch, computed, written = Stopwatch.on(facts.job.device.device), list[Shard](), list[str]()
    start, processor, passes = time.perf_counter(), time.process_time(), asdict(cut_model.passes)
    for key, shard in shards.items():
        wanted = holdings.read(folder, {key}).missing(key, facts.values)
        if not wanted:
            advance(len(shard))
            continue
        try:
            file = compute(facts.job, cut_model, shard, key, wanted, folder, watch, advance)
        except Interference:
            mirror.remove(folder, written)
            raise
        mirror.push(folder)
        written.append(file.name)
        computed.append(shard)
    passes = {name: count - passes[name] for name, count in asdict(cut_model.passes).items()}
    seconds, processor = watch.seconds(), time.process_time() - processor
    images = sum(map(len, computed))
    return Computed(len(computed), images, seconds, time.perf_counter() - start, processor, passes), written


def stored(facts: Facts, folder: Path) -> Stored:
    """The files that hold the job's values. Raises BenchError where some have vanished meanwhile: what follows takes
    the records for those of all images."""
    shards = {facts.shard(shard) for shard in facts.job.shards}
    held = holdings.read(folder, shards)
    if gone := sum(bool(held.missing(key, facts.values)) for key in shards):
        raise BenchError(
            f"{gone} of {len(shards)} shards that were computed are gone from {folder}, or damaged, before the run "
            "has ended; run the same command again, and let nothing delete its files."
        )
    needed = [file for shard in facts.job.shards for file in held.needed(facts.shard(shard), facts.values)]
    return Stored(
        values=facts.values,
        turned={image: is_upright for file in needed for image, is_upright in file.turned.items()},
        **held.listed(map(facts.shard, facts.job.shards), facts.values),
    )


def cost(job: Job, cut_model: CutModel, shards: Collection[Shard], budget: int | None) -> str | None:
    """The cost of these shards, in forward passes; None where only the traces need passes. budget: maximum of forward
    passes for an image and explained class. Raises BenchError where they would be more."""
    batch = first_row(job)
    if batch is None:
        return None
    trace = traced(cut_model, batch)
    if not trace.has_gradients and (several := first_batch(job, job.indices, job.batch_size, ())) is not None:
        warn_of_silence(traced(cut_model, several))
    versions = None if batch.interventions is None else versions_per_row(job, shards)
    passes = costs.Cost.of(job.methods, job.metrics, trace, versions)
    costs.check(passes, job.metrics, budget)
    return passes.line(sum(map(len, shards)), sum(map(job.rows, shards))) if passes.per_image else None


def versions_per_row(job: Job, missing: Collection[Shard]) -> float:
    """The versions of an image without its parts, on average over the rows of these shards."""
    counts = [(job.rows((index,)), job.data.versions(index)) for shard in missing for index in shard]
    number = sum(of_image for of_image, _ in counts)
    return sum(of_image * versions for of_image, versions in counts) / number if number else 0.0


def compute(
    job: Job, cut_model: CutModel, shard: Shard, key: str, missing: Values, folder: Path, watch: Watch,
    advance: Advance,
) -> RecordFile:  # fmt: skip
    """Computes the missing values of one shard and writes them as one file, with their curves beside it. watch: is told
    of the parts of the evaluation. Writes nothing, and raises Interference where a plug-in changes what others read."""
    values: dict[str, list[Columns]] = {method: [] for method in missing}
    curves: dict[str, list[Columns]] = {method: [] for method in missing}
    wanted = requests(job, missing)
    metrics = [metric for request in wanted for metric in request.metrics]
    extras = required([*metrics, *(method for request in wanted for method in request.methods)])
    batches = counted(rows(job, shard, extras), len(shard), advance)
    how = job.batch_rows, job.normalise, watch, watched_rate(job.num_batches)
    with turned_images() as turned:
        for part in shard_rows(cut_model, batches, wanted, *how):
            if len(part["method"]):
                (values if holds_values(part) else curves)[part["method"][0]].append(part)
    plugins = [plugin for request in wanted for plugin in (*request.methods, *request.metrics)]
    foreign = sorted({plugin.target for plugin in plugins if plugin.is_foreign})
    notes = {
        **({"beside": foreign} if foreign else {}),
        **({"turned": turned} if turned else {}),
        "names": {metric.name: list(value_names(metric)) for metric in metrics},
        "curves": {metric.name: list(metric.spec.curves) for metric in metrics if metric.spec.curves},
        "axes": {name: axes for parts in curves.values() for part in parts for name, axes in part["axes"].items()},
    }
    of_values, of_curves = (list(chain.from_iterable(parts.values())) for parts in (values, curves))
    table = frame(of_values).assign(**constants(job))
    return holdings.write(folder, key, missing, table, curve_frame(of_curves), notes)


class _Turned(logging.Handler):
    def __init__(self, turned: dict[str, bool], is_upright: bool) -> None:
        super().__init__(logging.WARNING)
        self.turned, self.is_upright = turned, is_upright

    def emit(self, record: logging.LogRecord) -> None:
        self.turned[record.getMessage()] = self.is_upright


@contextmanager
def turned_images() -> Iterator[dict[str, bool]]:
    """{id: whether it is turned upright} of the images with an EXIF orientation that are loaded inside."""
    turned: dict[str, bool] = {}
    handlers = {log: _Turned(turned, is_upright) for is_upright, log in orientations.items()}
    for log, handler in handlers.items():
        log.addHandler(handler)
    try:
        yield turned
    finally:
        for log, handler in handlers.items():
            log.removeHandler(handler)


def counted(batches: Iterator[Batch | BadImage], images: int, advance: Advance) -> Iterator[Batch | BadImage]:
    """The batches. When the next one is asked for, the images of the last are done; at the end, so are all."""
    done: set[str] = set()
    for batch in batches:
        yield batch
        of_batch = {batch.image_id} if isinstance(batch, BadImage) else set(batch.image_ids)
        advance(len(of_batch - done))
        done |= of_batch
    advance(images - len(done))


def requests(job: Job, missing: Values) -> list[MethodsByMetrics]:
    """The missing values in as few groups as can be: methods that lack the same metrics share one."""
    methods: dict[tuple[str, ...], list[Plugin]] = {}
    by_name = {method.name: method for method in job.methods}
    for name, metrics in missing.items():
        methods.setdefault(tuple(metrics), []).extend([by_name[name]] if name != LAYER else [])
    return [
        MethodsByMetrics(tuple(group), tuple(metric for metric in job.metrics if metric.name in metrics))
        for metrics, group in methods.items()
    ]


def constants(job: Job) -> dict[str, str]:
    """The columns that are the same in all of a job's records."""
    return {"experiment": job.experiment, "model": job.model.name, "layer": job.model.layer, "data": job.data.name}
