"""The computation of a job's shards: which values each must have, and the record files that hold them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from axiom_bench.columns import LAYER
from axiom_bench.cutting.passes import by_halves
from axiom_bench.cutting.trace import CutModel, cut
from axiom_bench.data.base import BadImage
from axiom_bench.data.batch import Batch
from axiom_bench.data.loading import batches
from axiom_bench.evaluation.batch import Columns, curve_frame, frame, holds_values, with_score_scale
from axiom_bench.evaluation.plugins import Plugin, required, value_names
from axiom_bench.evaluation.shard import MethodsByMetrics, shard_rows, traced
from axiom_bench.evaluation.stopwatch import UNTIMED, Watch
from axiom_bench.records import holdings
from axiom_bench.records.holdings import Values
from axiom_bench.run.inputs import image_cache
from axiom_bench.run.jobs.facts import Facts
from axiom_bench.run.jobs.job import Job, Shard


@dataclass(frozen=True)
class Task:
    """A shard, its key, and the values that it must have: {method: {metric: key}}."""

    shard: Shard
    key: str
    wanted: Values


def cut_of(job: Job) -> CutModel:
    """The job's model on its device, cut at its layer."""
    device = job.device
    model = job.model.module.to(device.device)
    return cut(
        model,
        job.model.layer,
        device.precision,
        device.head_precision,
        device.ablation_memory,
        job.model.reshape,
        job.model.output,
    )


def decided(job: Job, cut_model: CutModel) -> Job:
    """The job with every method's scale known: where a YAML doesn't claim it, a check on the first batch decides."""
    if all(method.spec.on_score_scale is not None for method in job.methods):
        return job
    first = next((batch for batch in rows(job, job.indices, required(job.methods)) if isinstance(batch, Batch)), None)
    if first is None:  # no image can be read, so no method will be called
        return job

    def methods(part: Batch, _: int) -> list[Plugin]:
        return with_score_scale(job.methods, traced(cut_model, part))

    return replace(job, methods=tuple(next(by_halves(first, len(first), cut_model.limits, methods))))


def tasks(facts: Facts) -> tuple[Task, ...]:
    """Every shard of the job, with its key and the values that it must have."""
    return tuple(Task(shard, facts.shard(shard), facts.values) for shard in facts.job.shards)


def compute(
    job: Job,
    cut_model: CutModel,
    task: Task,
    missing: Values,
    folder: Path,
    watch: Watch = UNTIMED,
    advance: Callable[[int], None] = lambda images: None,
) -> None:
    """Computes the missing values of one shard and writes them as one file, with their curves beside it.

    watch: is told of the parts of the evaluation. advance: is told how many more images are done.
    """
    values: dict[str, list[Columns]] = {method: [] for method in missing}
    curves: dict[str, list[Columns]] = {method: [] for method in missing}
    wanted = requests(job, missing)
    extras = required(plugin for request in wanted for plugin in (*request.methods, *request.metrics))
    batches_of_shard = counted(rows(job, task.shard.indices, extras), len(task.shard), advance)
    for part in shard_rows(cut_model, batches_of_shard, wanted, job.batch_rows, job.normalise, watch):
        if len(part["method"]):
            (values if holds_values(part) else curves)[part["method"][0]].append(part)
    axes = {name: axes for parts in curves.values() for part in parts for name, axes in part["axes"].items()}
    holdings.write(
        folder,
        task.key,
        missing,
        frame([part for parts in values.values() for part in parts]).assign(**constants(job)),
        curve_frame([part for parts in curves.values() for part in parts]),
        notes([metric for request in wanted for metric in request.metrics], axes),
    )


def counted(
    batches: Iterator[Batch | BadImage], images: int, advance: Callable[[int], None]
) -> Iterator[Batch | BadImage]:
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


def notes(metrics: Sequence[Plugin], axes: Mapping[str, object]) -> dict[str, Mapping[str, object]]:
    """A record file's metadata about its metrics: names of values and curves, and how curves are drawn."""
    return {
        "names": {metric.name: list(value_names(metric)) for metric in metrics},
        "curves": {metric.name: list(metric.spec.curves) for metric in metrics if metric.spec.curves},
        "axes": axes,
    }


def constants(job: Job) -> dict[str, str]:
    """The columns that are the same in all of a job's records."""
    return {"experiment": job.experiment, "model": job.model.name, "layer": job.model.layer, "data": job.data.name}


def first_row(job: Job) -> Batch | None:
    """The first row of an image that can be read; None where there is none."""
    extras = required((*job.methods, *job.metrics))
    return first_batch(job, job.indices, 1, extras)


def first_batch(job: Job, indices: Sequence[int], size: int, extras: Collection[str]) -> Batch | None:
    """The first `size` rows of images that can be read, on the job's device; None where there are none."""
    readable = loaded(job, indices, size, job.one_worker, extras)
    return next((batch for batch in readable if isinstance(batch, Batch)), None)


def rows(job: Job, indices: Sequence[int], extras: Collection[str] = ()) -> Iterator[Batch | BadImage]:
    """Batches on the job's device, without annotations if these name other classes than the model's.

    extras: what is loaded beside the images, as `loading.batches` takes it. Decoding goes on beside, in other
    processes.
    """
    return loaded(job, indices, job.batch_size, job.workers, extras)


def loaded(
    job: Job, indices: Sequence[int], size: int, workers: int, extras: Collection[str]
) -> Iterator[Batch | BadImage]:
    """Batches of `size` rows, as `rows` has them."""
    preprocessing, place = job.model.preprocessing, (job.device.device, image_cache.of_job(job))
    for batch in batches(job.data, indices, preprocessing, job.target, size, workers, extras, *place):
        if job.shares_classes or isinstance(batch, BadImage):
            yield batch
        else:
            yield replace(batch, annotations=(), interventions=None)
