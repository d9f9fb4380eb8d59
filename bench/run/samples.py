"""Run times, the report's pictures and the gallery: files about a sample of a job's images, made
after the records.

The worker that finishes a job calls the functions `ensure_...`, which `records.artefacts` names.
The sample is spread evenly over the images, which are often sorted by class. Run times are measured
in one go.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
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
from axiom_bench.records import store
from axiom_bench.records.entries import JobEntry
from axiom_bench.run.gallery_rows import (
    explanations_of,
    gallery_rows,
    pictures_of,
    spread,
    viewed,
    views_of,
)
from axiom_bench.run.images import first_batch
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
            entries = list(gallery_rows(job, shard))
            store.write(folder / path, pa.Table.from_pylist(entries, store.GALLERY), schema=None)
    return tuple(paths)


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
    explanations = explanations_of(job, trace, batch)
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
    views = views_of(job, trace, heatmaps)
    raw_maps = {}
    if job.settings.pictures.arrays:
        for name, explanation in explanations.items():
            raw_maps[f"{RAW}{name}"] = explanation.required_raw_map.float().cpu().numpy()
    class_names = [
        job.target_name(row, target)
        for row, target in zip(batch.image_ids, trace.targets.tolist(), strict=True)
    ]
    heatmap_bytes = [np.round(255 * viewed(views, heatmap)) for heatmap in heatmaps]
    perturbed_pictures = [pictures_of(job, views, images) for images in perturbed]
    if metric is None:
        confidences = [np.empty(0)] * len(explanations)
        perturbed_pictures = confidences
    return {
        **raw_maps,
        "images": pictures_of(job, views, trace.images),
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
