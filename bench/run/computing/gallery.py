"""The pictures of the report's gallery: images spread over the run's, with boxes, classes and every method's map.

Pictures and maps are WebP, for looking at: a map's values are within 1 % of the heatmap's on average. Whatever is
computed from maps is in the records.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from axiom_bench.cutting.passes import by_halves
from axiom_bench.cutting.trace import CutModel
from axiom_bench.data.batch import Batch
from axiom_bench.evaluation.batch import trace_of_batch
from axiom_bench.evaluation.plugins import required
from axiom_bench.explanation.explanation import given
from axiom_bench.records import store
from axiom_bench.records.store import GALLERY
from axiom_bench.run.computing.compute import rows
from axiom_bench.run.computing.pictures import class_name, explanation_of
from axiom_bench.run.jobs.job import Job, shards
from axiom_bench.run.stages import PICTURES, Step

STAGE = PICTURES
FORMAT = 1  # counted up when what a file holds changes
IMAGES = 32  # in a file
MAX_SIDE = 256  # of a picture, in pixels; larger ones are shown smaller
QUALITY = 90  # of WebP: a map differs by 0.3 % of its range on average, 5 % at most


def ensure(step: Step) -> tuple[str, ...]:
    """The files with the job's pictures, relative to the run folder; those that are missing or damaged are made.

    The setting pictures.gallery: how many images; None: all, 0: none.
    """
    job, cut_model, folder = step.facts.job, step.cut_model, step.folder
    count = step.config["pictures"]["gallery"]
    key = step.facts.step("gallery", FORMAT, count)
    paths = []
    for number, shard in enumerate(shards(spread(job.indices, count), IMAGES)):
        paths.append(f"gallery/{job.file_stem}-{key[:12]}-{number:04d}.parquet")
        if not store.is_usable(folder / paths[-1], GALLERY.names):
            entries = list(pictured(job, cut_model, shard.indices))
            store.write(folder / paths[-1], pa.Table.from_pylist(entries, GALLERY), schema=None)
    return tuple(paths)


def spread(indices: Sequence[int], count: int | None) -> tuple[int, ...]:
    """So many of the indices, evenly spread from the first on; all of them for None, or where there are fewer.

    >>> spread((0, 1, 2, 3, 4, 5, 6), 3)
    (0, 2, 4)
    """
    number = len(indices) if count is None else min(count, len(indices))
    return tuple(indices[place * len(indices) // number] for place in range(number))


def pictured(job: Job, cut_model: CutModel, indices: Sequence[int]) -> Iterator[dict[str, Any]]:
    """A row of SCHEMA for each image and explained class; images that can't be read have none."""
    for batch in rows(replace(job, workers=job.one_worker), indices, required(job.methods)):
        if isinstance(batch, Batch):

            def entries(part: Batch, _: int) -> list[dict[str, Any]]:
                return list(_of_batch(job, cut_model, part))

            yield from chain.from_iterable(by_halves(batch, len(batch), cut_model.limits, entries))


def _of_batch(job: Job, cut_model: CutModel, batch: Batch) -> Iterator[dict[str, Any]]:
    trace = trace_of_batch(cut_model, batch)
    explanations = {method.name: explanation_of(job, method, trace, batch) for method in job.methods}
    heatmaps = {
        name: given(explanation.heatmap, "heatmap").cpu().double().numpy()
        for name, explanation in explanations.items()
        if explanation is not None
    }
    pictures = job.model.preprocessing.denormalise(trace.images)
    probabilities = trace.logits.double().softmax(1).tolist() if trace.has_probability else None
    predicted, targets = trace.logits.argmax(1).tolist(), trace.targets.tolist()
    boxes, masks = batch.boxes(trace.targets), batch.masks(trace.targets)
    height, width = batch.images.shape[-2:]
    for row, target in enumerate(targets):
        maps = {name: heatmap[row] for name, heatmap in heatmaps.items()}
        yield {
            **{"model": job.model.name, "layer": job.model.layer, "data": job.data.name},
            **{"image_id": batch.image_ids[row], "width": width, "height": height},
            **_class("target", job, target, None if probabilities is None else probabilities[row]),
            **_class("predicted", job, predicted[row], None if probabilities is None else probabilities[row]),
            "boxes": [] if boxes is None else boxes[row].tolist(),
            "picture": webp(pictures[row]),
            "outline": None if masks is None else outline(masks[row]),
            "methods": list(maps),
            "maps": [
                webp(np.round(255 * heatmap)) if np.isfinite(heatmap).all() else None for heatmap in maps.values()
            ],
            "disagreement": disagreement(list(maps.values())),
        }


def _class(role: str, job: Job, index: int, probabilities: Sequence[float] | None) -> dict[str, Any]:
    probability = None if probabilities is None else probabilities[index]
    return {f"{role}_class": index, f"{role}_name": class_name(job, index), f"{role}_probability": probability}


def webp(picture: NDArray[Any]) -> bytes:
    """A picture (H, W, 3), or a grey one (H, W), with values from 0 to 255."""
    image = Image.fromarray(picture.astype(np.uint8))
    image.thumbnail((MAX_SIDE, MAX_SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=QUALITY, method=2)  # 4, the default, takes twice as long for the same bytes
    return buffer.getvalue()


def outline(mask: Tensor) -> bytes | None:
    """The pixels of a mask (H, W) that have a neighbour outside of it, white on nothing; None for an empty mask."""
    inside = np.pad(mask.numpy(), 1)
    if not inside.any():
        return None
    inner = inside[:-2, 1:-1] & inside[2:, 1:-1] & inside[1:-1, :-2] & inside[1:-1, 2:]
    edge = Image.fromarray(np.where(inside[1:-1, 1:-1] & ~inner, 255, 0).astype(np.uint8))
    edge.thumbnail((MAX_SIDE, MAX_SIDE))
    buffer = io.BytesIO()
    Image.merge("LA", (Image.new("L", edge.size, 255), edge)).save(buffer, "PNG")
    return buffer.getvalue()


def disagreement(heatmaps: Sequence[NDArray[np.float64]]) -> float:
    """The mean of 1 - Pearson's correlation over the pairs of heatmaps (H, W). Maps that are the same everywhere, or
    not finite, have no correlation and don't count; NaN where fewer than two are left."""
    flat = [heatmap.ravel() for heatmap in heatmaps if np.isfinite(heatmap).all() and np.ptp(heatmap) > 0]
    if len(flat) < 2:
        return float("nan")
    return float(np.mean(1 - np.atleast_2d(np.corrcoef(flat))[np.triu_indices(len(flat), 1)]))
