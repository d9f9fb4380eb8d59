"""The loop: a job's shards, one trace per batch, and the record files that weren't there yet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from axiom_bench.columns import LAYER
from axiom_bench.cutting.cut_model import CutModel, cut
from axiom_bench.cutting.trace import Trace
from axiom_bench.data.base import BadImage
from axiom_bench.data.batch import Batch
from axiom_bench.data.loading import batches
from axiom_bench.evaluation.evaluate import Columns, curve_frame, frame, rows_of, with_score_scale
from axiom_bench.evaluation.plugins import Plugin, value_names
from axiom_bench.records import store as records
from axiom_bench.run import fingerprint
from axiom_bench.run.job import Job
from axiom_bench.run.shards import Shard


@dataclass(frozen=True)
class Todo:
    """A shard and, for each method ("-" for the layer's own metrics), the file of its records; curves: the methods
    that also have a file of curves."""

    shard: Shard
    files: dict[str, str]
    curves: frozenset[str] = frozenset()

    def missing(self, folder: Path) -> dict[str, str]:
        """The files that are still to be computed."""
        return {method: file for method, file in self.files.items() if not self._is_there(folder, method)}

    def curve_files(self, method: str | None = None) -> list[str]:
        """The files of curves, of all methods or of one."""
        return [curve_file(file) for name, file in self.files.items() if name in self.curves and method in (None, name)]

    def _is_there(self, folder: Path, method: str) -> bool:
        return all((folder / file).is_file() for file in (self.files[method], *self.curve_files(method)))


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


def decided(job: Job, whole: CutModel) -> Job:
    """The job with every method's scale known: where a YAML doesn't claim it, a check on the first batch decides."""
    if all(method.spec.on_score_scale is not None for method in job.methods):
        return job
    first = next((batch for batch in rows(job, job.indices) if isinstance(batch, Batch)), None)
    if first is None:  # no image can be read, so no method will be called
        return job
    return replace(job, methods=tuple(with_score_scale(job.methods, traced(whole, first))))


def todo(job: Job) -> tuple[Todo, ...]:
    """Every shard with the files that its records belong in."""
    common = fingerprint.of_job(job)
    layer = {LAYER: None} if any(_of_layer(metric) for metric in job.metrics) else {}
    columns: dict[str, Plugin | None] = layer | {method.name: method for method in job.methods}
    curves = frozenset(name for name in columns if _curves(job, name))
    return tuple(
        Todo(
            shard, {name: fingerprint.file_name(job, common, shard, method) for name, method in columns.items()}, curves
        )
        for shard in job.shards
    )


def compute(job: Job, whole: CutModel, shard: Shard, files: dict[str, str], folder: Path) -> None:
    """Computes one shard for the methods of `files` and writes a file for each."""
    parts: dict[str, list[Columns]] = {method: [] for method in files}
    curves: dict[str, list[Columns]] = {method: [] for method in files}
    for part in shard_rows(job, whole, shard, list(files)):
        if len(part["method"]):
            (parts if "value" in part else curves)[part["method"][0]].append(part)
    for method, file in files.items():
        if _curves(job, method):  # before the records: where those are, the shard is done
            records.write(folder / curve_file(file), curve_frame(curves[method]), records.CURVES)
        records.write(folder / file, frame(parts[method]).assign(**constants(job)))


def constants(job: Job) -> dict[str, str]:
    """The columns that are the same in all of a job's records."""
    return {"experiment": job.experiment, "model": job.model.name, "layer": job.model.layer, "data": job.data.name}


def curve_file(file: str) -> str:
    """Where the curves are that belong to a file of records."""
    return file.replace("records/", "curves/", 1)


def _curves(job: Job, method: str) -> bool:
    """Whether any of the metrics of a method (of the layer: "-") has curves."""
    return any(metric.spec.curves for metric in job.metrics if _of_layer(metric) == (method == LAYER))


def shard_rows(job: Job, whole: CutModel, shard: Shard, names: Sequence[str]) -> Iterator[Columns]:
    """The records' columns of a shard for some methods, batch after batch; a bad image has rows that say so."""
    methods = [method for method in job.methods if method.name in names]
    metrics = [metric for metric in job.metrics if not _of_layer(metric) or LAYER in names]
    for batch in rows(job, shard.indices):
        if isinstance(batch, BadImage):
            yield from (bad_rows(batch, name, metrics) for name in names)
            continue
        full = padded(batch, job.batch_size)
        trace = replace(traced(whole, full), num_padding=len(full) - len(batch))
        for part in rows_of(trace, full, methods, metrics, job.normalise):
            yield trimmed(part, len(full), len(batch))


def traced(whole: CutModel, batch: Batch) -> Trace:
    """The batch's trace; what the network itself raises gets a note, since its input's size is the usual cause."""
    try:
        return whole.trace(batch.images, batch.targets)
    except RuntimeError as error:
        height, width = batch.images.shape[-2:]
        error.add_note(f"raised by the network on images of {height} x {width} pixels; model.resize sets their size")
        raise


def rows(job: Job, indices: Sequence[int]) -> Iterator[Batch | BadImage]:
    """Batches on the job's device, without annotations of other classes than the model's; decoding goes on beside."""
    for batch in batches(job.data, indices, job.model.preprocessing, job.target, job.batch_size, job.workers):
        if isinstance(batch, BadImage):
            yield batch
        else:
            known = batch if job.shares_classes else replace(batch, annotations=())
            yield known.to(job.device.device)


def padded(batch: Batch, size: int) -> Batch:
    """The batch with its last row repeated up to `size` rows.

    A product's rounding may depend on how many rows it has; with all batches of one size, a value is the same bit by
    bit however the images are cut into shards.
    """
    index = torch.arange(size).clamp(max=len(batch) - 1)
    return Batch(
        images=batch.images[index.to(batch.images.device)],
        image_ids=tuple(batch.image_ids[row] for row in index.tolist()),
        targets=None if batch.targets is None else batch.targets[index.to(batch.targets.device)],
        annotations=tuple(batch.annotations[row] for row in index.tolist()) if batch.annotations else (),
    )


def trimmed(part: Columns, size: int, count: int) -> Columns:
    """The first `count` of every `size` rows."""
    keep = np.arange(len(next(iter(part.values())))) % size < count
    return {name: values[keep] for name, values in part.items()}


def bad_rows(image: BadImage, method: str, metrics: Sequence[Plugin]) -> Columns:
    """An image that can't be read, in every value of a method: NaN, with the reason as status."""
    names = [name for metric in metrics if _of_layer(metric) == (method == LAYER) for name in value_names(metric)]
    texts = {"image_id": image.image_id, "method": method, "status": image.status}
    return {
        **{column: np.full(len(names), text, dtype=object) for column, text in texts.items()},
        "target_class": np.full(len(names), -1),
        "predicted_class": np.full(len(names), -1),
        "metric": np.array(names, dtype=object),
        "value": np.full(len(names), np.nan),
    }


def _of_layer(metric: Plugin) -> bool:
    return metric.spec.of == "layer"
