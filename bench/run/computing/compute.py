"""The values of a job's shards: which are missing, their computation, and the record files that hold them."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import asdict, replace
from itertools import chain
from pathlib import Path
from typing import Any

from axiom_bench.columns import LAYER
from axiom_bench.cutting.passes import by_halves
from axiom_bench.data.base import BadImage
from axiom_bench.data.batch import Batch
from axiom_bench.errors import BenchError
from axiom_bench.evaluation.batch import (
    Columns,
    MethodsByMetrics,
    curve_frame,
    frame,
    holds_values,
    shard_rows,
    traced,
    warn_of_silence,
)
from axiom_bench.evaluation.plugins import Plugin, required, value_names
from axiom_bench.evaluation.proof import proved
from axiom_bench.evaluation.purity import Interference, watched_rate
from axiom_bench.evaluation.stopwatch import Stopwatch, Watch
from axiom_bench.records import files, mirror, record_files
from axiom_bench.records.record_files import RecordFile, Values
from axiom_bench.run.computing import costs
from axiom_bench.run.inputs.images import first_batch, first_row, rows
from axiom_bench.run.job import Job, Shard
from axiom_bench.run.keys import Keys
from axiom_bench.run.result import Result

Advance = Callable[[int], None]  # is told how many more images are done


def decided(job: Job) -> Job:
    """The job with its users' own plug-ins proved, and every method's scale known, on the first batch."""
    plugins = (*job.methods, *job.metrics)
    if all(method.spec.on_score_scale is not None for method in job.methods) and not any(p.is_foreign for p in plugins):
        return job
    first = next((batch for batch in rows(job, job.indices, required(plugins)) if isinstance(batch, Batch)), None)
    if first is None:  # no image can be read, so no method will be called
        return job

    def proof(part: Batch, _: int) -> tuple[list[Plugin], list[Plugin]]:
        return proved(job.methods, job.metrics, traced(job.cut_model, part), part)

    methods, metrics = next(by_halves(first, len(first), job.cut_model.limits, proof))
    return replace(job, methods=tuple(methods), metrics=tuple(metrics))


def missing(keys: Keys, folder: Path) -> tuple[dict[str, Shard], tuple[str, ...]]:
    """({key: shard} of the job's shards that lack values, names of files that are damaged)."""
    shards = {keys.shard(shard): shard for shard in keys.job.shards}
    held = record_files.read(folder, shards)
    for name in held.damaged:
        files.warn_damaged(folder / name)
    return {key: shard for key, shard in shards.items() if held.missing(key, keys.values)}, held.damaged


def compute_shards(keys: Keys, shards: Mapping[str, Shard], folder: Path, advance: Advance) -> Result:
    """Computes what is missing of these shards. A shard that is there by now isn't computed again. advance: is told how
    many more images are done. Where a plug-in changes what others read, it raises Interference, and no file of these
    shards stays."""
    job, computed, written = keys.job, list[Shard](), list[str]()
    watch, before = Stopwatch.on(job.device.device), asdict(job.cut_model.passes)
    start, processor = time.perf_counter(), time.process_time()
    for key, shard in shards.items():
        wanted = record_files.read(folder, {key}).missing(key, keys.values)
        if not wanted:
            advance(len(shard))
            continue
        try:
            file = compute(job, shard, key, wanted, folder, watch.part, advance)
        except Interference:
            mirror.remove(folder, written)
            raise
        mirror.push(folder)
        written.append(file.name)
        computed.append(shard)
    return Result(
        job.name,
        shards_computed=len(computed),
        images_computed=sum(map(len, computed)),
        written=tuple(written),
        seconds=watch.seconds(),
        wall=time.perf_counter() - start,
        processor=time.process_time() - processor,
        passes={name: count - before[name] for name, count in asdict(job.cut_model.passes).items()},
    )


def stored(keys: Keys, folder: Path) -> tuple[dict[str, Any], dict[str, bool]]:
    """(the files of the job's values, as `RecordFiles.listed` has them; {id of an image with an EXIF orientation:
    whether it was applied}). Raises BenchError where some have vanished meanwhile: what follows takes the records for
    those of all images."""
    shards = [keys.shard(shard) for shard in keys.job.shards]
    held = record_files.read(folder, set(shards))
    if gone := sum(bool(held.missing(key, keys.values)) for key in shards):
        raise BenchError(
            f"{gone} of {len(shards)} shards that were computed are gone from {folder}, or damaged, before the run "
            "has ended; run the same command again, and let nothing delete its files."
        )
    needed = [file for key in shards for file in held.needed(key, keys.values)]
    turned = {image: is_upright for file in needed for image, is_upright in file.turned.items()}
    return held.listed(shards, keys.values), turned


def cost(job: Job, shards: Collection[Shard], budget: int | None) -> str | None:
    """The cost of these shards, in forward passes; None where only the traces need passes. budget: maximum of forward
    passes for an image and explained class. Raises BenchError where they would be more."""
    batch = first_row(job)
    if batch is None:
        return None
    trace = traced(job.cut_model, batch)
    if not trace.has_gradients and (several := first_batch(job, job.indices, job.batch_size, ())) is not None:
        warn_of_silence(traced(job.cut_model, several))
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
    job: Job, shard: Shard, key: str, missing: Values, folder: Path, watch: Watch, advance: Advance
) -> RecordFile:
    """Computes the missing values of one shard and writes them as one file, with their curves beside it. watch: is told
    of the parts of the evaluation. Writes nothing, and raises Interference where a plug-in changes what others read."""
    values: dict[str, list[Columns]] = {method: [] for method in missing}
    curves: dict[str, list[Columns]] = {method: [] for method in missing}
    wanted = requests(job, missing)
    metrics = [metric for request in wanted for metric in request.metrics]
    extras = required([*metrics, *(method for request in wanted for method in request.methods)])
    turned: dict[str, bool] = {}
    batches = counted(rows(job, shard, extras, turned=turned), len(shard), advance)
    options = job.batch_rows, job.normalise, watch, watched_rate(job.num_batches)
    for part in shard_rows(job.cut_model, batches, wanted, *options):
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
    return record_files.write(folder, key, missing, table, curve_frame(of_curves), notes)


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
