"""Run times, the report's pictures and the gallery: files about a sample of a job's images, made
after the records.

The worker that finishes a job calls the functions `ensure_...`, which `records.artefacts` names.
The sample is spread evenly over the images, which are often sorted by class. Run times are measured
in one go. The maps of the gallery are WebP, for looking at: on average within 1 % of the heatmap's
values.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import chain

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from PIL import Image
from torch import Tensor

from axiom_bench.columns import RUNTIME_COLUMNS
from axiom_bench.cutting.passes import halve_until_it_fits
from axiom_bench.cutting.trace import Trace
from axiom_bench.data.batch import Batch
from axiom_bench.errors import BenchError
from axiom_bench.evaluation import plugins
from axiom_bench.evaluation.answers import first_request
from axiom_bench.evaluation.batch import trace_of_batch
from axiom_bench.evaluation.plugins import Metric, required
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
FORMAT = 1  # increase it when the content of the gallery's files changes
IMAGES = 32  # the images in a file of the gallery
RAW = "raw_map_"  # an array of raw maps has this prefix, then the name of a method
ROW_AXIS = {  # the axis of rows of each array that has one, except the raw maps
    "images": 0,
    "image_ids": 0,
    "class_names": 0,
    "confidence": 0,
    "heatmaps": 1,
    "perturbed": 1,
    "confidence_perturbed": 1,
}


def ensure_runtime(keys: Keys, stored: JobEntry) -> tuple[str, ...]:
    """Measure the run times of the job's methods, unless their file exists undamaged.

    The settings are runtime.repeats (0: no file) and runtime.batch_size.

    Args:
        keys: The keys of the job.
        stored: The job's entry, which this step doesn't need.

    Returns:
        The path of the file, relative to the run folder; nothing if there is no file.
    """
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

        def measure(part: Batch, rows: int) -> pd.DataFrame:
            trace = trace_of_batch(job.cut_model, part.repeated(rows))
            return measure_runtime(trace, job.methods, repeats, job.notes)

        # If memory runs out, fewer rows are measured: the table says how many.
        table = next(
            halve_until_it_fits(batch, batch_size, job.cut_model.limits, measure, job.notes)
        )
        store.write(
            folder / path, table.assign(model=job.model.name, data=job.data.name), schema=None
        )
    return (path,)


def ensure_pictures(keys: Keys, stored: JobEntry) -> tuple[str, ...]:
    """Make the job's pictures, unless their file exists undamaged.

    The settings are pictures.rows (the number of rows; 0: no file), pictures.perturbation (the
    metric whose perturbed images are shown; null: none) and pictures.arrays (store raw maps, too).

    Args:
        keys: The keys of the job.
        stored: The job's entry, which this step doesn't need.

    Returns:
        The path of the file, relative to the run folder; nothing if there is no file.
    """
    job = keys.job
    folder = job.settings.run_folder
    pictures = job.settings.pictures
    if not pictures.rows:
        return ()
    # the metric of the run has the run's parameters; another one has its own
    configured = {metric.name: metric for metric in job.metrics}
    metric = None
    target = ""
    params: list[tuple[str, object]] = []
    if pictures.perturbation is not None:
        metric = configured.get(pictures.perturbation)
        metric = metric or plugins.load("metric", pictures.perturbation)
        target = metric.target
        params = sorted(metric.params.items())
    name = keys.step("pictures", pictures.rows, target, params, job.class_names, pictures.arrays)
    path = f"pictures/{job.file_stem}-{name[:12]}.npz"
    if not store.is_usable(folder / path, notes=job.notes):
        batch = spread_rows(job, pictures.rows)
        if batch is None:
            return ()

        def arrays_of(part: Batch, rows: int) -> dict[str, np.ndarray]:
            return arrays(job, metric, part)

        parts = halve_until_it_fits(batch, len(batch), job.cut_model.limits, arrays_of, job.notes)
        store.write_arrays(folder / path, _joined(list(parts)))
    return (path,)


def ensure_gallery(keys: Keys, stored: JobEntry) -> tuple[str, ...]:
    """Make the gallery's files that are missing or damaged.

    The setting pictures.gallery is the number of images (None: all, 0: none).

    Args:
        keys: The keys of the job.
        stored: The job's entry, which this step doesn't need.

    Returns:
        The paths of all files of the gallery, relative to the run folder.
    """
    job = keys.job
    folder = job.settings.run_folder
    count = job.settings.pictures.gallery
    key = keys.step("gallery", FORMAT, count, job.class_names)
    paths = []
    for number, shard in enumerate(shards(spread(job.indices, count), IMAGES)):
        path = f"gallery/{job.file_stem}-{key[:12]}-{number:04d}.parquet"
        paths.append(path)
        if not store.is_usable(folder / path, store.GALLERY.names, job.notes):
            entries = list(_gallery_entries(job, shard))
            store.write(folder / path, pa.Table.from_pylist(entries, store.GALLERY), schema=None)
    return tuple(paths)


def spread(indices: Sequence[int], count: int | None) -> tuple[int, ...]:
    """Return `count` of the indices, spread evenly from the first on. None, or a larger count,
    returns all of them.

    >>> spread((0, 1, 2, 3, 4, 5, 6), 3)
    (0, 2, 4)
    """
    number = len(indices) if count is None else min(count, len(indices))
    return tuple(indices[step * len(indices) // number] for step in range(number))


def spread_rows(job: Job, count: int) -> Batch | None:
    """Return a batch of at most `count` rows of images spread over the job's, which are often
    sorted by class.

    An image that can't be read is replaced by the first readable one. Return None if no image can
    be read.
    """
    spread_indices = job.indices[:: max(1, len(job.indices) // count)]
    candidates = tuple(dict.fromkeys((*spread_indices, *job.indices)))
    return first_batch(job, candidates, count, required(job.methods))


def arrays(job: Job, metric: Metric | None, batch: Batch) -> dict[str, np.ndarray]:
    """Return the arrays of a file of pictures, of N rows and the M methods that apply to the model.

    Args:
        job: The job.
        metric: The metric whose perturbed images are shown; None for no perturbed images.
        batch: The N rows.

    Returns:
        A dictionary. Its images are (N, H, W, 3) uint8, and image_ids, class_names and confidence
        are (N,). Its methods are (M,). Its heatmaps are (M, N, H, W) uint8, in which 255 is the
        heatmap's 1. Its perturbed images are (M, N, H, W, 3) uint8, with confidence_perturbed (M,
        N); without a metric both are (M, 0). It also has the model and the layer. confidence_of is
        "probability" if confidences are the probability of the class. It is "score" if they are the
        class score, since the output has no probability. With pictures.arrays each method also has
        raw_map_METHOD (N, h, w) float32.
    """
    trace = trace_of_batch(job.cut_model, batch)
    explanations = _explanations(job, trace, batch)
    perturbed = []
    if metric is not None:
        perturbed = [_perturbed(metric, explanation) for explanation in explanations.values()]
    confidences = []
    with torch.no_grad():
        for images in perturbed:
            logits = trace.network.forward_logits(images)
            confidences.append(_confidences(trace, logits))
    # Heatmaps that aren't finite are shown as zero.
    heatmaps = [
        explanation.required_heatmap.nan_to_num(0.0) for explanation in explanations.values()
    ]
    views = _views(job, trace, heatmaps)
    raw_maps = {}
    if job.settings.pictures.arrays:
        for name, explanation in explanations.items():
            raw_maps[f"{RAW}{name}"] = explanation.required_raw_map.float().cpu().numpy()
    class_names = [
        job.target_name(row, target)
        for row, target in zip(batch.image_ids, trace.targets.tolist(), strict=True)
    ]
    heatmap_bytes = [np.round(255 * _viewed(views, heatmap)) for heatmap in heatmaps]
    perturbed_pictures = [_pictures(job, views, images) for images in perturbed]
    if metric is None:
        confidences = [np.empty(0)] * len(explanations)
        perturbed_pictures = confidences
    return {
        **raw_maps,
        "images": _pictures(job, views, trace.images),
        "image_ids": np.array(batch.image_ids),
        "class_names": np.array(class_names),
        "confidence": _confidences(trace, trace.logits),
        "methods": np.array(list(explanations)),
        "heatmaps": np.array(heatmap_bytes, dtype=np.uint8),
        "perturbed": np.array(perturbed_pictures, dtype=np.uint8),
        "confidence_perturbed": np.array(confidences),
        "confidence_of": np.array("probability" if trace.has_probability else "score"),
        "model": np.array(job.model.name),
        "layer": np.array(job.model.layer),
    }


def _views(job: Job, trace: Trace, heatmaps: Sequence[Tensor]) -> list[View] | None:
    """Return the view in which each row's sample is shown if samples are arrays, or None if they
    are pictures.
    """
    if job.model.preprocessing.shape is None:
        return None
    heat = sum(
        (heatmap.nan_to_num(0.0) for heatmap in heatmaps), torch.zeros_like(trace.images[:, 0])
    )
    samples = trace.images.cpu().numpy()
    total_heatmaps = heat.detach().cpu().numpy()
    return [
        View.of(sample, heatmap) for sample, heatmap in zip(samples, total_heatmaps, strict=True)
    ]


def _pictures(job: Job, views: Sequence[View] | None, images: Tensor) -> np.ndarray:
    """Return the pictures (N, H, W, 3) uint8 of the network's input images."""
    if views is None:
        return job.model.preprocessing.denormalise(images)
    samples = images.detach().float().cpu().numpy()
    return np.stack([view.picture(sample) for view, sample in zip(views, samples, strict=True)])


def _viewed(views: Sequence[View] | None, maps: Tensor) -> np.ndarray:
    """Return maps or masks of the rows in the view of their samples: (N, H, W)."""
    values = maps.detach().cpu().float().numpy()
    if views is None:
        return values
    return np.stack([view.map(value) for view, value in zip(views, values, strict=True)])


def _joined(parts: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Concatenate the arrays of several parts of the rows. If no method applies, arrays of methods
    have no rows.
    """
    joined = dict(parts[0])
    raw_map_axis = {name: 0 for name in joined if name.startswith(RAW)}
    for name, axis in (ROW_AXIS | raw_map_axis).items():
        if joined[name].ndim > axis:
            joined[name] = np.concatenate([part[name] for part in parts], axis)
    return joined


def _explanations(job: Job, trace: Trace, batch: Batch) -> dict[str, Explanation]:
    """Return the explanation of each method that applies to the model. The records have the status
    of the others.
    """
    explanations = {}
    for method in job.methods:
        try:
            explanations[method.name] = Explanation.of(
                trace, method(trace), batch, method, job.normalise
            )
        except BenchError:
            continue
    return explanations


def _perturbed(metric: Metric, explanation: Explanation) -> Tensor:
    """Return the first perturbed images on which a metric evaluates the model: (N, 3, H, W).

    Raise BenchError if the metric doesn't start with one perturbed copy of each image.
    """
    request = first_request(metric, explanation)
    if not isinstance(request, PerturbedImages) or request.count != 1:
        raise BenchError(
            f"pictures.perturbation={metric.name} can't be shown: the metric doesn't ask about "
            "one perturbed copy of each image; choose one such as confidence_drop."
        )
    return request.perturbed(slice(0, len(explanation)), slice(0, 1))[:, 0]


def _confidences(trace: Trace, logits: Tensor) -> np.ndarray:
    """Return the explained class's probability (N,) from logits (N, C), or its score if there is no
    probability.
    """
    if trace.has_probability:
        values = logits.double().softmax(1)
    else:
        values = trace.network.explained(logits).double()
    confidence: np.ndarray = values.gather(1, trace.targets[:, None])[:, 0].cpu().numpy()
    return confidence


def _gallery_entries(job: Job, indices: Sequence[int]) -> Iterator[dict[str, object]]:
    """Yield a row of GALLERY for each image and explained class. Images that can't be read have no
    row.
    """
    entries = partial(_entries_of_batch, job)
    for batch in rows(job, indices, required(job.methods), workers=job.sample_workers):
        if isinstance(batch, Batch):
            parts = halve_until_it_fits(batch, len(batch), job.cut_model.limits, entries, job.notes)
            yield from chain.from_iterable(parts)


def _entries_of_batch(job: Job, batch: Batch, _: int) -> list[dict[str, object]]:
    """Return the gallery's rows of one batch."""
    trace = trace_of_batch(job.cut_model, batch)
    explanations = _explanations(job, trace, batch)
    plain_heatmaps = {
        name: explanation.required_heatmap for name, explanation in explanations.items()
    }
    views = _views(job, trace, list(plain_heatmaps.values()))
    heatmaps = {
        name: _viewed(views, heatmap).astype(np.float64) for name, heatmap in plain_heatmaps.items()
    }
    images = _pictures(job, views, trace.images)
    height, width = images.shape[1:3]
    probabilities = trace.logits.double().softmax(1).tolist() if trace.has_probability else None
    boxes = batch.boxes(trace.targets)
    masks = batch.masks(trace.targets)
    boxes_by_row = [[] if boxes is None else boxes[row].tolist() for row in range(len(batch))]
    if views is not None:
        boxes_by_row = [
            view.boxes(row_boxes) for view, row_boxes in zip(views, boxes_by_row, strict=True)
        ]
    outlines = None if masks is None else [outline(mask) for mask in _viewed(views, masks) > 0.5]
    targets = trace.targets.tolist()
    predicted = trace.logits.argmax(1).tolist()
    entries = []
    for row in range(len(batch)):
        maps = [heatmap[row] for heatmap in heatmaps.values()]
        # "width" and "height" are of the boxes; the picture may be smaller
        entry: dict[str, object] = {
            "model": job.model.name,
            "layer": job.model.layer,
            "data": job.data.name,
            "image_id": batch.image_ids[row],
            "width": width,
            "height": height,
            "boxes": boxes_by_row[row],
            "picture": webp(images[row]),
            "outline": None if outlines is None else outlines[row],
            "methods": list(heatmaps),
            "maps": [_stored_map(heatmap) for heatmap in maps],
            "disagreement": disagreement(maps),
        }
        target_name = job.target_name(batch.image_ids[row], targets[row])
        named_classes = (
            ("target", targets[row], target_name),
            ("predicted", predicted[row], job.class_names[predicted[row]]),
        )
        for role, index, name in named_classes:
            entry[f"{role}_class"] = index
            entry[f"{role}_name"] = name
            entry[f"{role}_probability"] = (
                None if probabilities is None else probabilities[row][index]
            )
        entries.append(entry)
    return entries


def _stored_map(heatmap: np.ndarray) -> bytes | None:
    """Encode a heatmap for GALLERY: None if it isn't finite, and no bytes if it is zero
    everywhere.
    """
    if not np.isfinite(heatmap).all():
        return None
    return webp(np.round(255 * heatmap)) if heatmap.any() else b""


def outline(mask: np.ndarray) -> bytes | None:
    """Draw the pixels of a mask (H, W) that have a neighbour outside of it, white on transparent,
    as a PNG file.

    Return None if the mask is empty.
    """
    inside = np.pad(mask, 1)
    if not inside.any():
        return None
    inner = inside[:-2, 1:-1] & inside[2:, 1:-1] & inside[1:-1, :-2] & inside[1:-1, 2:]
    edge = Image.fromarray(np.where(inside[1:-1, 1:-1] & ~inner, 255, 0).astype(np.uint8))
    edge.thumbnail((MAX_SIDE, MAX_SIDE))
    buffer = io.BytesIO()
    Image.merge("LA", (Image.new("L", edge.size, 255), edge)).save(buffer, "PNG")
    return buffer.getvalue()
