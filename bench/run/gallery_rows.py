"""The gallery's rows: an image with the map of each method, as a run stores them and the
leaderboard's galleries show them.

Maps are WebP, for looking at: on average within 1 % of the heatmap's values.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import chain
from typing import cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from axiom_bench.cutting.passes import halve_until_it_fits
from axiom_bench.cutting.trace import Trace
from axiom_bench.data.batch import Batch
from axiom_bench.errors import BenchError
from axiom_bench.evaluation.batch import trace_of_batch
from axiom_bench.evaluation.plugins import required
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.explanation.overlay import MAX_SIDE, View, disagreement, webp
from axiom_bench.records.store import GalleryRow
from axiom_bench.run.images import rows
from axiom_bench.run.job import Job


def gallery_rows(job: Job, indices: Sequence[int]) -> Iterator[GalleryRow]:
    """Yield a row for each image and explained class. Images that can't be read have no row.

    Args:
        job: The job, whose methods' maps are computed.
        indices: The images.
    """
    entries = partial(_rows_of_batch, job)
    for batch in rows(job, indices, required(job.methods), workers=job.sample_workers):
        if isinstance(batch, Batch):
            parts = halve_until_it_fits(batch, len(batch), job.cut_model.limits, entries, job.notes)
            yield from chain.from_iterable(parts)


def spread(indices: Sequence[int], count: int | None) -> tuple[int, ...]:
    """Return `count` of the indices, spread evenly from the first on. None, or a larger count,
    returns all of them.

    >>> spread((0, 1, 2, 3, 4, 5, 6), 3)
    (0, 2, 4)
    """
    number = len(indices) if count is None else min(count, len(indices))
    return tuple(indices[step * len(indices) // number] for step in range(number))


def _rows_of_batch(job: Job, batch: Batch, _: int) -> list[GalleryRow]:
    """Return the gallery's rows of one batch."""
    trace = trace_of_batch(job.cut_model, batch)
    explanations = explanations_of(job, trace, batch)
    plain_heatmaps = {
        name: explanation.required_heatmap for name, explanation in explanations.items()
    }
    views = views_of(job, trace, list(plain_heatmaps.values()))
    heatmaps = {
        name: viewed(views, heatmap).astype(np.float64) for name, heatmap in plain_heatmaps.items()
    }
    images = pictures_of(job, views, trace.images)
    height, width = images.shape[1:3]
    probabilities = trace.logits.double().softmax(1).tolist() if trace.has_probability else None
    boxes = batch.boxes(trace.targets)
    masks = batch.masks(trace.targets)
    boxes_by_row = [[] if boxes is None else boxes[row].tolist() for row in range(len(batch))]
    if views is not None:
        boxes_by_row = [
            view.boxes(row_boxes) for view, row_boxes in zip(views, boxes_by_row, strict=True)
        ]
    outlines = None if masks is None else [outline(mask) for mask in viewed(views, masks) > 0.5]
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
        entries.append(cast(GalleryRow, entry))
    return entries


def explanations_of(job: Job, trace: Trace, batch: Batch) -> dict[str, Explanation]:
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


def views_of(job: Job, trace: Trace, heatmaps: Sequence[Tensor]) -> list[View] | None:
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


def pictures_of(job: Job, views: Sequence[View] | None, images: Tensor) -> np.ndarray:
    """Return the pictures (N, H, W, 3) uint8 of the network's input images."""
    if views is None:
        return job.model.preprocessing.denormalise(images)
    samples = images.detach().float().cpu().numpy()
    return np.stack([view.picture(sample) for view, sample in zip(views, samples, strict=True)])


def viewed(views: Sequence[View] | None, maps: Tensor) -> np.ndarray:
    """Return maps or masks of the rows in the view of their samples: (N, H, W)."""
    values = maps.detach().cpu().float().numpy()
    if views is None:
        return values
    return np.stack([view.map(value) for view, value in zip(views, values, strict=True)])


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
