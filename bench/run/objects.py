"""The objects that a job's network finds in its images, each a row: `target=detections`, `matched` or `masks`.

Which they are is decided once, on the unchanged images, and kept in the run folder, shard by shard: objects/*.parquet
has a row for each.
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

from axiom_bench.cutting.objects import Found, ObjectScores
from axiom_bench.cutting.output_presets import intersection_over_union
from axiom_bench.cutting.passes import by_halves
from axiom_bench.data.base import BACKGROUND, BadImage
from axiom_bench.data.batch import Annotation, Batch
from axiom_bench.data.objects import ObjectImages
from axiom_bench.errors import BenchError
from axiom_bench.models.objects import ObjectOfRow, Objects
from axiom_bench.records import files, store
from axiom_bench.records.record_files import key
from axiom_bench.run.images import rows
from axiom_bench.run.job import MASKS, MATCHED, Job, Shard
from axiom_bench.run.keys import Keys
from axiom_bench.run.progress import progress

Row = dict[str, Any]  # of SCHEMA
COUNTS = "annotated"  # of a file's metadata: {image: its number of annotated objects}
MATCH = 0.5  # IoU of a box with the annotated one that it matches
SCHEMA = pa.schema(
    [
        *[(name, pa.string()) for name in ("model", "layer", "image_id")],
        ("number", pa.int64()),  # in the id of the object's row, "000123.jpg//001"; -1: it has no row
        ("detection", pa.int64()),  # its place among what is found in the image, the most probable first
        *[("label", pa.int64()), ("class", pa.string()), ("probability", pa.float64())],
        *[(name, pa.float64()) for name in ("x0", "y0", "x1", "y1")],
        *[("annotation", pa.int64()), ("iou", pa.float64())],  # the object that it matches, counted in its image; -1
        *[("shape", pa.list_(pa.int64())), ("place", pa.binary())],  # as the network takes it, float32
    ]
)


def on_objects(job: Job, folder: Path) -> Job:
    """The job on the objects that its network finds, by its target rule. Raises BenchError where there are none."""
    inputs = job.model.inputs
    assert isinstance(inputs, Objects)
    found, counts = _found(job, inputs.least, folder)
    rows = [row for row in found if row["number"] >= 0]
    if not rows:
        raise BenchError(
            f"{job.name}: the network finds no {'annotated ' * (job.target == MATCHED)}object with a probability of at "
            f"least {inputs.least} in {len(job.indices)} images; lower model.min_probability."
        )
    places = {name: place for place, name in enumerate(job.data.ids)}
    rows.sort(key=lambda row: (places[row["image_id"]], row["number"]))
    objects = [(places[row["image_id"]], row["number"], row["label"]) for row in rows]
    data = ObjectImages(job.data, objects, _notes(job, inputs.least, rows, counts))
    detected = {} if job.target == MATCHED else _annotations(rows)
    of_rows = {
        name: ObjectOfRow(_place(each), None if job.target == MASKS else each["number"], detected.get(each["image_id"]))
        for name, each in zip(data.ids, rows, strict=True)
    }
    model = replace(job.model, inputs=replace(inputs, of_rows=of_rows))
    fingerprint = _plain(job).data_fingerprint  # by which a suite knows its images, on any machine
    indices = tuple(range(len(data)))
    return replace(job, data=data, indices=indices, all_indices=indices, model=model, of_images=fingerprint)


def _plain(job: Job) -> Job:
    """The job of all its images, each once."""
    return replace(job, target="predicted", model=replace(job.model, inputs=None))


def _found(job: Job, least: float, folder: Path) -> tuple[list[Row], dict[str, int]]:
    """(a row of SCHEMA for each object, {image: how many objects it is annotated with}) of all images that can be read.

    Kept in the run folder, so that a run that was stopped goes on.
    """
    plain = _plain(job)
    keys, found, counts = Keys(plain), list[Row](), dict[str, int]()
    with progress(f"{job.name}, objects", len(job.indices)) as shown:
        for shard in job.shards:
            name = key(objects=keys.shard(shard), least=least, target=job.target)
            path = folder / f"objects/{job.file_stem}-{name[:12]}.parquet"
            if not store.is_usable(path, SCHEMA.names, job.notes):
                _write(path, plain, shard, least, job.target)
            content = files.read(path)
            counts |= store.metadata_of(content)[COUNTS]
            found += store.parse(path, content).to_pylist()
            shown.advance(len(shard))
    return found, counts


def _write(path: Path, job: Job, shard: Shard, least: float, target: str) -> None:
    """Write the objects of a shard. target: the rule that chooses and numbers the rows."""
    found, counts = list[Row](), dict[str, int]()
    network = job.model.module
    assert isinstance(network, ObjectScores)

    def of_part(part: Batch, rows: int) -> list[list[Found]]:
        return network.found(part.repeated(rows).images, least, target == MASKS)[: len(part)]

    for batch in rows(job, shard):
        if isinstance(batch, BadImage):  # its warning has been shown
            continue
        annotations = batch.annotations or [Annotation.none()] * len(batch)
        parts = by_halves(batch, job.batch_rows, job.cut_model.limits, of_part, job.notes)
        objects = chain.from_iterable(parts)
        for image, annotation, of_image in zip(batch.image_ids, annotations, objects, strict=True):
            counts[image] = len(annotation.labels)
            matches = _matches(of_image, annotation)
            for detection, (each, (match, iou)) in enumerate(zip(of_image, matches, strict=True)):
                number = match if target == MATCHED else detection
                values = [job.model.name, job.model.layer, image, number, detection]
                values += [each.label, job.class_names[each.label], each.probability, *each.box.tolist(), match, iou]
                values += [[*each.place.shape], each.place.numpy().tobytes()]
                found.append(dict(zip(SCHEMA.names, values, strict=True)))
    store.write(path, pa.Table.from_pylist(found, SCHEMA), schema=None, metadata={COUNTS: counts})


def _matches(objects: Sequence[Found], annotation: Annotation) -> list[tuple[int, float]]:
    """(the annotated object that each matches, their IoU), (-1, 0) for none: the most probable first, each the free
    object of its class with the highest IoU, at least MATCH."""
    matches, taken = list[tuple[int, float]](), set[int]()
    for each in objects:
        overlap = intersection_over_union(each.box[None].double(), annotation.boxes.double())[0]
        free = [place for place, label in enumerate(annotation.labels) if label == each.label and place not in taken]
        best = max(free, key=lambda place: float(overlap[place]), default=None)
        if best is None or overlap[best] < MATCH:
            matches.append((-1, 0.0))
        else:
            taken.add(best)
            matches.append((best, float(overlap[best])))
    return matches


def _place(row: Row) -> Tensor:
    return torch.frombuffer(bytearray(row["place"]), dtype=torch.float32).view(row["shape"])


def _annotations(rows: Sequence[Row]) -> dict[str, Annotation]:
    """{image: what the network finds, as an annotation}, with its mask in the size of regions, where there are any."""
    annotations = {}
    for image, group in groupby(rows, key=itemgetter("image_id")):
        objects = list(group)
        labels = torch.tensor([each["label"] for each in objects])
        boxes = torch.tensor([[each[name] for name in ("x0", "y0", "x1", "y1")] for each in objects])
        mask = None
        if len(objects[0]["shape"]) > 1:
            mask = torch.full(objects[0]["shape"], BACKGROUND)
            for each in objects:
                mask[_place(each) > 0] = each["label"]
        annotations[image] = Annotation(labels, boxes, mask)
    return annotations


def _notes(job: Job, least: float, rows: Sequence[Row], counts: Mapping[str, int]) -> list[str]:
    """What a reader must know of the objects."""
    kinds = f"a probability of at least {least}"
    if job.target == MATCHED:
        number, of = len(rows), sum(counts.values())
        sentence = f"{number} of {of} annotated objects are found, with {kinds} and an IoU of at least {MATCH}"
    else:
        what = "masks of classes" if job.target == MASKS else "objects"
        sentence = f"{len(rows)} {what} are found, with {kinds}"
    without = len(counts) - len({each["image_id"] for each in rows})
    unreadable = len(job.indices) - len(counts)
    return [
        f"{sentence}; {without} of {len(counts)} images have none, and no row" if without else sentence,
        *([f"{unreadable} of {len(job.indices)} images can't be read, and have no row"] if unreadable else []),
    ]
