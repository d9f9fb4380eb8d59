"""What a job makes of images spread over its own, after the records: run times, measured in one go, and the report's
pictures and gallery. Their maps are WebP, for looking at: within 1 % of the heatmap's values on average."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from PIL import Image
from torch import Tensor

from axiom_bench.columns import RUNTIME_COLUMNS
from axiom_bench.cutting.passes import by_halves
from axiom_bench.cutting.trace import Trace
from axiom_bench.data.batch import Batch
from axiom_bench.errors import BenchError
from axiom_bench.evaluation import plugins
from axiom_bench.evaluation.answers import first_request
from axiom_bench.evaluation.batch import trace_of_batch
from axiom_bench.evaluation.plugins import Plugin, required
from axiom_bench.evaluation.queries import PerturbedImages
from axiom_bench.evaluation.runtime import measure_runtime
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.explanation.overlay import MAX_SIDE, View, disagreement, webp
from axiom_bench.records import store
from axiom_bench.records.entries import JobEntry
from axiom_bench.run.images import first_batch, rows
from axiom_bench.run.job import Job, shards
from axiom_bench.run.keys import Keys

STAGES = {"runtime": "run times", "pictures": "pictures", "gallery": "pictures"}
FORMAT = 1  # counted up when what a file of the gallery holds changes
IMAGES = 32  # in a file of the gallery
RAW = "raw_map_"  # before the name of a method
ROW_AXIS = {  # of the arrays that have an axis of rows
    **dict.fromkeys(("images", "image_ids", "class_names", "confidence"), 0),
    **dict.fromkeys(("heatmaps", "perturbed", "confidence_perturbed"), 1),
}


def ensure_runtime(keys: Keys, stored: JobEntry) -> tuple[str, ...]:
    """The job's file of run times, relative to the run folder; measured where it isn't there, or is damaged. Settings
    of runtime: repeats (0: no file) and batch_size."""
    job = keys.job
    folder = job.settings.run_folder
    repeats = job.settings.runtime.repeats
    batch_size = job.settings.runtime.batch_size
    if not repeats:
        return ()
    name = keys.step("runtime", repeats, batch_size)
    path = f"runtime/{job.file_stem}-{name[:12]}.parquet"
    if not store.is_usable(folder / path, RUNTIME_COLUMNS, job.notes):
        batch = spread_rows(job, batch_size)
        if batch is None:
            return ()

        def measured(part: Batch, rows: int) -> pd.DataFrame:
            trace = trace_of_batch(job.cut_model, part.repeated(rows))
            return measure_runtime(trace, job.methods, repeats, job.notes)

        # On fewer rows where memory asks for it: the table says how many.
        table = next(by_halves(batch, batch_size, job.cut_model.limits, measured, job.notes))
        store.write(folder / path, table.assign(model=job.model.name, data=job.data.name), schema=None)
    return (path,)


def ensure_pictures(keys: Keys, stored: JobEntry) -> tuple[str, ...]:
    """The file with the job's pictures, relative to the run folder; made where it isn't there yet. Settings of
    pictures: rows (how many; 0: no file), perturbation (the metric whose perturbation is shown) and arrays (raw maps
    too)."""
    job = keys.job
    folder = job.settings.run_folder
    pictures = job.settings.pictures
    if not pictures.rows:
        return ()
    configured = {entry.name: entry for entry in job.metrics}
    metric = configured.get(pictures.perturbation) or plugins.load("metric", pictures.perturbation)
    settings = pictures.rows, metric.target, sorted(metric.params.items()), job.class_names, pictures.arrays
    name = keys.step("pictures", *settings)
    path = f"pictures/{job.file_stem}-{name[:12]}.npz"
    if not store.is_usable(folder / path, notes=job.notes):
        batch = spread_rows(job, pictures.rows)
        if batch is None:
            return ()

        def arrays_of(part: Batch, rows: int) -> dict[str, np.ndarray]:
            return arrays(job, metric, part)

        parts = by_halves(batch, len(batch), job.cut_model.limits, arrays_of, job.notes)
        store.write_arrays(folder / path, _joined(list(parts)))
    return (path,)


def ensure_gallery(keys: Keys, stored: JobEntry) -> tuple[str, ...]:
    """The files with the gallery's pictures, relative to the run folder; those that are missing or damaged are made.
    The setting pictures.gallery: how many images; None: all, 0: none."""
    job = keys.job
    folder = job.settings.run_folder
    count = job.settings.pictures.gallery
    key = keys.step("gallery", FORMAT, count, job.class_names)
    paths = []
    for number, shard in enumerate(shards(spread(job.indices, count), IMAGES)):
        paths.append(f"gallery/{job.file_stem}-{key[:12]}-{number:04d}.parquet")
        if not store.is_usable(folder / paths[-1], store.GALLERY.names, job.notes):
            entries = list(_gallery_entries(job, shard))
            store.write(folder / paths[-1], pa.Table.from_pylist(entries, store.GALLERY), schema=None)
    return tuple(paths)


def spread(indices: Sequence[int], count: int | None) -> tuple[int, ...]:
    """So many of the indices, evenly spread from the first on; all of them for None, or where there are fewer.

    >>> spread((0, 1, 2, 3, 4, 5, 6), 3)
    (0, 2, 4)
    """
    number = len(indices) if count is None else min(count, len(indices))
    return tuple(indices[place * len(indices) // number] for place in range(number))


def spread_rows(job: Job, count: int) -> Batch | None:
    """At most `count` rows of images spread over the chosen ones, which often stand in the order of their classes.
    Images that can't be read give their place to the first that can; None where there are none."""
    chosen = job.indices[:: max(1, len(job.indices) // count)]
    return first_batch(job, tuple(dict.fromkeys((*chosen, *job.indices))), count, required(job.methods))


def arrays(job: Job, metric: Plugin, batch: Batch) -> dict[str, np.ndarray]:
    """The arrays of a file, of N rows and the M methods that apply. images (N, H, W, 3) uint8, image_ids, class_names
    and confidence (N,), methods (M,), heatmaps (M, N, H, W) uint8, 255 for 1, perturbed (M, N, H, W, 3) uint8,
    confidence_perturbed (M, N), model, layer. confidence_of: "probability", of the class, or "score", S itself where
    the output has no probability. With pictures.arrays also raw_map_METHOD (N, h, w) float32."""
    trace = trace_of_batch(job.cut_model, batch)
    explanations = _explanations(job, trace, batch)
    perturbed = [_perturbed(metric, explanation) for explanation in explanations.values()]
    with torch.no_grad():
        confidences = [_confidences(trace, trace.network.forward_logits(images)) for images in perturbed]
    heatmaps = [each.required_heatmap.nan_to_num(0.0) for each in explanations.values()]  # not finite: no heat
    views = _views(job, trace, heatmaps)
    maps = {name: each.required_raw_map for name, each in explanations.items()}
    return {
        **{f"{RAW}{name}": maps[name].float().cpu().numpy() for name in maps if job.settings.pictures.arrays},
        "images": _pictures(job, views, trace.images),
        "image_ids": np.array(batch.image_ids),
        "class_names": np.array([job.class_names[target] for target in trace.targets.tolist()]),
        "confidence": _confidences(trace, trace.logits),
        "methods": np.array(list(explanations)),
        "heatmaps": np.array([np.round(255 * _seen(views, heatmap)) for heatmap in heatmaps], dtype=np.uint8),
        "perturbed": np.array([_pictures(job, views, images) for images in perturbed], dtype=np.uint8),
        "confidence_perturbed": np.array(confidences),
        "confidence_of": np.array("probability" if trace.has_probability else "score"),
        "model": np.array(job.model.name),
        "layer": np.array(job.model.layer),
    }


def _views(job: Job, trace: Trace, heatmaps: Sequence[Tensor]) -> list[View] | None:
    """How each row's sample is seen, where it is an array; None for pictures."""
    if job.model.preprocessing.shape is None:
        return None
    heat = sum((each.nan_to_num(0.0) for each in heatmaps), torch.zeros_like(trace.images[:, 0]))
    return [View.of(*each) for each in zip(trace.images.cpu().numpy(), heat.detach().cpu().numpy(), strict=True)]


def _pictures(job: Job, views: Sequence[View] | None, images: Tensor) -> np.ndarray:
    """(N, H, W, 3) uint8, of images as the network takes them."""
    if views is None:
        return job.model.preprocessing.denormalise(images)
    samples = images.detach().float().cpu().numpy()
    return np.stack([view.picture(sample) for view, sample in zip(views, samples, strict=True)])


def _seen(views: Sequence[View] | None, maps: Tensor) -> np.ndarray:
    """(N, H, W), of maps or masks of rows."""
    values = maps.detach().cpu().numpy()
    return values if views is None else np.stack([view.map(each) for view, each in zip(views, values, strict=True)])


def _joined(parts: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The arrays of all rows, from those of some rows each; where no method applies, those of methods have no rows."""
    joined = dict(parts[0])
    for name, axis in (ROW_AXIS | {name: 0 for name in joined if name.startswith(RAW)}).items():
        if joined[name].ndim > axis:
            joined[name] = np.concatenate([part[name] for part in parts], axis)
    return joined


def _explanations(job: Job, trace: Trace, batch: Batch) -> dict[str, Explanation]:
    """Every method's explanation, but of those that don't apply to the model: their records have the status."""
    explanations = {}
    for method in job.methods:
        try:
            explanations[method.name] = Explanation.of(trace, method(trace), batch, method, job.normalise)
        except BenchError:
            continue
    return explanations


def _perturbed(metric: Plugin, explanation: Explanation) -> Tensor:
    """The first perturbed images that a metric asks the model about: (N, 3, H, W). Raises BenchError for a metric that
    doesn't start with one perturbed copy of each image."""
    request = first_request(metric, explanation)
    if not isinstance(request, PerturbedImages) or request.count != 1:
        raise BenchError(
            f"pictures.perturbation={metric.name} can't be shown: the metric doesn't ask about one perturbed copy of "
            "each image; choose one such as confidence_drop."
        )
    return request.perturbed(slice(0, len(explanation)), slice(0, 1))[:, 0]


def _confidences(trace: Trace, logits: Tensor) -> np.ndarray:
    """The class's probability, or S where there is none, in logits (N, C) of the trace's model: (N,)."""
    values = logits.double().softmax(1) if trace.has_probability else trace.network.explained(logits).double()
    confidence: np.ndarray = values.gather(1, trace.targets[:, None])[:, 0].cpu().numpy()
    return confidence


def _gallery_entries(job: Job, indices: Sequence[int]) -> Iterator[dict[str, Any]]:
    """A row of GALLERY for each image and explained class; images that can't be read have none."""
    entries = partial(_entries_of_batch, job)
    for batch in rows(job, indices, required(job.methods), workers=job.one_worker):
        if isinstance(batch, Batch):
            parts = by_halves(batch, len(batch), job.cut_model.limits, entries, job.notes)
            yield from chain.from_iterable(parts)


def _entries_of_batch(job: Job, batch: Batch, _: int) -> list[dict[str, Any]]:
    trace = trace_of_batch(job.cut_model, batch)
    of_methods = {name: each.required_heatmap for name, each in _explanations(job, trace, batch).items()}
    views = _views(job, trace, list(of_methods.values()))
    heatmaps = {name: _seen(views, heatmap).astype(np.float64) for name, heatmap in of_methods.items()}
    images = _pictures(job, views, trace.images)
    probabilities = trace.logits.double().softmax(1).tolist() if trace.has_probability else None
    boxes, masks = batch.boxes(trace.targets), batch.masks(trace.targets)
    of_boxes = [[] if boxes is None else boxes[row].tolist() for row in range(len(batch))]
    if views is not None:
        of_boxes = [view.boxes(each) for view, each in zip(views, of_boxes, strict=True)]
    outlines = None if masks is None else [*map(outline, _seen(views, masks) > 0.5)]
    height, width = images.shape[1:3]
    entries = []
    for row, (target, predicted) in enumerate(
        zip(trace.targets.tolist(), trace.logits.argmax(1).tolist(), strict=True)
    ):
        maps = [heatmap[row] for heatmap in heatmaps.values()]
        entry = {
            **{"model": job.model.name, "layer": job.model.layer, "data": job.data.name},
            **{"image_id": batch.image_ids[row], "width": width, "height": height},
            "boxes": of_boxes[row],
            "picture": webp(images[row]),
            "outline": None if outlines is None else outlines[row],
            "methods": list(heatmaps),
            "maps": list(map(_stored_map, maps)),
            "disagreement": disagreement(maps),
        }
        for role, index in (("target", target), ("predicted", predicted)):
            entry[f"{role}_class"], entry[f"{role}_name"] = index, job.class_names[index]
            entry[f"{role}_probability"] = None if probabilities is None else probabilities[row][index]
        entries.append(entry)
    return entries


def _stored_map(heatmap: np.ndarray) -> bytes | None:
    """A heatmap as GALLERY has it: no picture if it is zero everywhere."""
    if not np.isfinite(heatmap).all():
        return None
    return webp(np.round(255 * heatmap)) if heatmap.any() else b""


def outline(mask: np.ndarray) -> bytes | None:
    """The pixels of a mask (H, W) that have a neighbour outside of it, white on nothing; None for an empty mask."""
    inside = np.pad(mask, 1)
    if not inside.any():
        return None
    inner = inside[:-2, 1:-1] & inside[2:, 1:-1] & inside[1:-1, :-2] & inside[1:-1, 2:]
    edge = Image.fromarray(np.where(inside[1:-1, 1:-1] & ~inner, 255, 0).astype(np.uint8))
    edge.thumbnail((MAX_SIDE, MAX_SIDE))
    buffer = io.BytesIO()
    Image.merge("LA", (Image.new("L", edge.size, 255), edge)).save(buffer, "PNG")
    return buffer.getvalue()
