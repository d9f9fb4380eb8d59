"""The objects that a job's network finds in its images: `target=detections`, `matched` or `masks`.

Each object is a row of the job, as an image is one for a classifier. The network finds the objects
once, on the unchanged images, so that all methods explain the same objects. The run folder keeps
them shard by shard: objects/*.parquet has a row for each object.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain, groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor

from axiom_bench.cutting.objects import Found, PlacedScores
from axiom_bench.cutting.output_presets import intersection_over_union
from axiom_bench.cutting.passes import halve_until_it_fits
from axiom_bench.data.base import BACKGROUND, BadImage
from axiom_bench.data.batch import Annotation, Batch
from axiom_bench.data.layouts.classes import class_indices
from axiom_bench.data.objects import ObjectImages
from axiom_bench.errors import BenchError, plural, verb
from axiom_bench.models.objects import Objects, RowObject
from axiom_bench.records import files, store
from axiom_bench.records.record_files import key
from axiom_bench.run.images import rows
from axiom_bench.run.job import MASKS, MATCHED, Job, Shard
from axiom_bench.run.keys import Keys
from axiom_bench.run.progress import advance, progress

Row = dict[str, Any]  # numbers, texts, lists and bytes by name, as pyarrow returns them
"""A row of SCHEMA."""
COUNTS = "annotated"  # the entry {image: number of its annotated objects} of a file's metadata
MATCH = 0.5  # the least IoU of a box with the annotated box that it matches
SCHEMA = pa.schema(
    [
        ("model", pa.string()),
        ("layer", pa.string()),
        ("image_id", pa.string()),
        # the number in the id of the object's row, "000123.jpg//001"; -1: it has no row
        ("number", pa.int64()),
        # the rank among the objects found in the image, the most probable first
        ("detection", pa.int64()),
        ("label", pa.int64()),
        ("class", pa.string()),
        ("probability", pa.float64()),
        ("x0", pa.float64()),
        ("y0", pa.float64()),
        ("x1", pa.float64()),
        ("y1", pa.float64()),
        # the number of the annotated object in the image that it matches, or -1
        ("annotation", pa.int64()),
        ("iou", pa.float64()),  # the IoU with that object, or 0
        ("shape", pa.list_(pa.int64())),  # the shape of "place"
        ("place", pa.binary()),  # tells the network which object it is, see `PlacedScores`; float32
    ]
)


def use_found_objects(job: Job, folder: Path) -> Job:
    """Return the job on the objects that its network finds, according to the target rule.

    Args:
        job: The job on its images.
        folder: The run folder, which keeps the objects.

    Raises:
        BenchError: If the network finds no object.
    """
    inputs = job.model.inputs
    assert isinstance(inputs, Objects)
    found, counts = _find_objects(job, inputs.least, folder)
    rows = [row for row in found if row["number"] >= 0]
    if not rows:
        kind = "annotated object" if job.target == MATCHED else "object"
        raise BenchError(
            f"{job.name}: the network finds no {kind} with a probability of at least "
            f"{inputs.least} in {plural(len(job.indices), 'image')}; lower model.min_probability."
        )
    position_by_image = {image: position for position, image in enumerate(job.data.ids)}
    rows.sort(key=lambda row: (position_by_image[row["image_id"]], row["number"]))
    objects = [(position_by_image[row["image_id"]], row["number"], row["label"]) for row in rows]
    data = ObjectImages(job.data, objects, _notes(job, inputs.least, rows, counts))
    annotations = {} if job.target == MATCHED else _annotations(rows)
    object_by_row = {}
    for row_id, row in zip(data.ids, rows, strict=True):
        if job.model.says_words:
            row_object = _word_object(job, row)
        else:
            number = None if job.target == MASKS else row["number"]
            row_object = RowObject(_place(row), number, annotations.get(row["image_id"]))
        object_by_row[row_id] = row_object
    model = replace(job.model, inputs=replace(inputs, object_by_row=object_by_row))
    # The fingerprint of the images, by which a suite identifies them on any machine.
    fingerprint = _plain(job).data_fingerprint
    indices = tuple(range(len(data)))
    return replace(
        job,
        data=data,
        indices=indices,
        all_indices=indices,
        model=model,
        source_fingerprint=fingerprint,
    )


def _word_object(job: Job, row: Row) -> RowObject:
    """Return the object of a row that explains a word.

    If the word is the name of a class of the data, the annotated objects of this class are the
    word's. Otherwise no box or mask says where its object is.
    """
    word = row["class"]
    noun = class_indices([word], job.data.classes, job.data.class_names).get(word)
    return RowObject(
        place=_place(row),
        explained=None,
        detected=Annotation.none() if noun is None else None,
        name=word,
        swapped=(row["label"], len(job.data.classes) if noun is None else noun),
    )


def _plain(job: Job) -> Job:
    """Return the job on its images, with one row per image and no objects.

    Finding objects uses it, and so does the fingerprint of the images.
    """
    return replace(job, target="predicted", model=replace(job.model, inputs=None))


def _find_objects(job: Job, least: float, folder: Path) -> tuple[list[Row], dict[str, int]]:
    """Return a row of SCHEMA for each object, and {image: number of its annotated objects} for each
    readable image.

    The run folder keeps both, so that a stopped run continues.
    """
    plain = _plain(job)
    keys = Keys(plain)
    found: list[Row] = []
    counts: dict[str, int] = {}
    with progress(f"{job.name}: finding {job.model.noun}s", len(job.indices)):
        for shard in job.shards:
            name = key(objects=keys.shard(shard), least=least, target=job.target)
            path = folder / f"objects/{job.file_stem}-{name[:12]}.parquet"
            if store.is_usable(path, SCHEMA.names, job.notes):
                advance(len(shard))
            else:
                _write(path, plain, shard, least, job.target)
            content = files.read(path)
            counts |= store.metadata_of(content)[COUNTS]
            found += store.parse(path, content).to_pylist()
    return found, counts


def _write(path: Path, job: Job, shard: Shard, least: float, target: str) -> None:
    """Find and write the objects of a shard. target: the rule that chooses and numbers the rows."""
    found: list[Row] = []
    counts: dict[str, int] = {}
    network = job.model.module
    assert isinstance(network, PlacedScores)

    def find(part: Batch, rows: int) -> list[list[Found]]:
        found = network.found(part.repeated(rows).images, least, target == MASKS)[: len(part)]
        advance(len(part))
        return found

    # a text takes many passes, and each image has its own ones
    rows_at_once = 1 if job.model.says_words else job.batch_rows
    for batch in rows(job, shard):
        if isinstance(batch, BadImage):  # a note about it exists already
            advance(1)
            continue
        annotations = batch.annotations or [Annotation.none()] * len(batch)
        parts = halve_until_it_fits(batch, rows_at_once, job.cut_model.limits, find, job.notes)
        objects_by_image = chain.from_iterable(parts)
        for image, annotation, objects in zip(
            batch.image_ids, annotations, objects_by_image, strict=True
        ):
            counts[image] = len(annotation.labels)
            matches = _matches(objects, annotation)
            for detection, detected in enumerate(objects):
                match, iou = matches[detection]
                x0, y0, x1, y1 = detected.box.tolist()
                row = {
                    "model": job.model.name,
                    "layer": job.model.layer,
                    "image_id": image,
                    "number": match if target == MATCHED else detection,
                    "detection": detection,
                    "label": detected.label,
                    "class": detected.name or job.class_names[detected.label],
                    "probability": detected.probability,
                    "x0": x0,
                    "y0": y0,
                    "x1": x1,
                    "y1": y1,
                    "annotation": match,
                    "iou": iou,
                    "shape": list(detected.place.shape),
                    "place": detected.place.numpy().tobytes(),
                }
                found.append(row)
    store.write(path, pa.Table.from_pylist(found, SCHEMA), schema=None, metadata={COUNTS: counts})


def _matches(objects: Sequence[Found], annotation: Annotation) -> list[tuple[int, float]]:
    """Return (number of the annotated object that an object matches, their IoU) for each object, or
    (-1, 0) for none.

    Objects match in their order, the most probable first. Each matches the annotated object of its
    class that has the highest IoU with it, at least MATCH, and that no earlier object matches.
    """
    matches: list[tuple[int, float]] = []
    matched: set[int] = set()
    for detected in objects:
        overlap = intersection_over_union(detected.box[None].double(), annotation.boxes.double())[0]
        candidates = []
        for number, label in enumerate(annotation.labels):
            if label == detected.label and number not in matched:
                candidates.append(number)
        best = max(candidates, key=lambda number: float(overlap[number]), default=None)
        if best is None or overlap[best] < MATCH:
            matches.append((-1, 0.0))
        else:
            matched.add(best)
            matches.append((best, float(overlap[best])))
    return matches


def _place(row: Row) -> Tensor:
    """Return the tensor that says which object the row is about."""
    return torch.frombuffer(bytearray(row["place"]), dtype=torch.float32).view(row["shape"])


def _annotations(rows: Sequence[Row]) -> dict[str, Annotation]:
    """Return {image: the objects that the network finds in it, as an annotation}.

    If objects have masks, the annotation has a mask of their size.
    """
    annotations = {}
    for image, group in groupby(rows, key=itemgetter("image_id")):
        objects = list(group)
        labels = torch.tensor([row["label"] for row in objects])
        boxes = torch.tensor([[row["x0"], row["y0"], row["x1"], row["y1"]] for row in objects])
        mask = None
        if len(objects[0]["shape"]) > 1:
            mask = torch.full(objects[0]["shape"], BACKGROUND)
            for row in objects:
                mask[_place(row) > 0] = row["label"]
        annotations[image] = Annotation(labels, boxes, mask)
    return annotations


def _notes(job: Job, least: float, rows: Sequence[Row], counts: Mapping[str, int]) -> list[str]:
    """Return the notes on the data that a reader needs to interpret the objects."""
    probability = f"a probability of at least {least}"
    are = verb(len(rows), "is", "are")
    if job.target == MATCHED:
        annotated = sum(counts.values())
        sentence = (
            f"{len(rows)} of {plural(annotated, 'annotated object')} {are} found, with "
            f"{probability} and an IoU of at least {MATCH}"
        )
    else:
        kind = "class mask" if job.target == MASKS else "object"
        sentence = f"{plural(len(rows), kind)} {are} found, with {probability}"
        if job.model.says_words:
            sentence = f"{plural(len(rows), 'word')} {are} explained"
    empty_images = len(counts) - len({row["image_id"] for row in rows})
    if empty_images:
        have = verb(empty_images, "has", "have")
        sentence += f"; {empty_images} of {plural(len(counts), 'image')} {have} none, and no row"
    notes = [sentence]
    unreadable = len(job.indices) - len(counts)
    if unreadable:
        images = plural(len(job.indices), "image")
        have = verb(unreadable, "has", "have")
        notes.append(f"{unreadable} of {images} can't be read, and {have} no row")
    return notes
