"""data.only_correct: the images that the model names correctly, decided by its own prediction before anything else."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from axiom_bench.cutting.cut_model import CutModel
from axiom_bench.data.base import BadImage
from axiom_bench.data.batch import Batch
from axiom_bench.errors import BenchError
from axiom_bench.evaluation.shard import padded, traced
from axiom_bench.records import files
from axiom_bench.records.keys import key
from axiom_bench.run.compute import rows
from axiom_bench.run.facts import Facts
from axiom_bench.run.job import Job
from axiom_bench.run.progress import progress
from axiom_bench.run.shards import Shard

UNREADABLE = -1
OTHERS = "left out by data.only_correct: the model doesn't name them correctly"  # in the manifest


def only_correct(job: Job, cut_model: CutModel, folder: Path) -> tuple[Job, tuple[str, ...]]:
    """(the job with the images whose predicted class is one of their labels, the ids of the others).

    An image that can't be read stays: its rows say so. The predictions are kept in the run folder, shard by shard, so
    that a run that was stopped goes on. Raises BenchError where no image is left, and where labels aren't the model's.
    """
    if not job.shares_classes:
        raise BenchError(
            f"{job.name}: the classes of {job.data.name!r} aren't the model's, so it is unknown which images it "
            "names correctly; set data.only_correct=false."
        )
    facts = Facts(job)
    paths = {shard: folder / f"predictions/{key(predictions=facts.shard(shard))}.json" for shard in job.shards}
    stored = {shard: _read(path) for shard, path in paths.items()}
    missing = [shard for shard, predictions in stored.items() if predictions is None]
    with progress(f"{job.name}, predictions", sum(map(len, missing)), Console()) as advance:
        for shard in missing:
            predictions = stored[shard] = _predictions(job, cut_model, shard)
            content = {"predictions": predictions, "sha256": key(predictions=predictions)}
            files.write(paths[shard], json.dumps(content).encode())
            advance(len(shard))
    predicted = {name: label for predictions in stored.values() for name, label in (predictions or {}).items()}
    right = {index for index in job.indices if _is_right(job, index, predicted[job.data.ids[index]])}
    if not right:
        raise BenchError(
            f"{job.name}: the model names none of the {len(job.indices)} images correctly; set data.only_correct=false."
        )
    left_out = tuple(job.data.ids[index] for index in job.indices if index not in right)
    return replace(job, indices=tuple(index for index in job.indices if index in right)), left_out


def note(left_out: Sequence[str], images: int) -> tuple[str, ...]:
    """A line about the images left out, of so many chosen; none where all are kept."""
    if not left_out:
        return ()
    return (f"{len(left_out)} of {images} images are left out: the model doesn't name them correctly.",)


def _is_right(job: Job, index: int, predicted: int) -> bool:
    return predicted == UNREADABLE or predicted in job.data.labels(index)


def _predictions(job: Job, cut_model: CutModel, shard: Shard) -> dict[str, int]:
    """{image id: predicted class}, as a trace of the image has it."""
    predictions: dict[str, int] = {}
    for batch in rows(replace(job, target="predicted"), shard.indices):
        if isinstance(batch, BadImage):
            predictions[batch.image_id] = UNREADABLE
        else:
            predictions.update(zip(batch.image_ids, _classes(job, cut_model, batch), strict=True))
    return predictions


def _classes(job: Job, cut_model: CutModel, batch: Batch) -> list[int]:
    logits = traced(cut_model, padded(batch, job.batch_rows)).logits
    return [int(label) for label in logits.argmax(1)[: len(batch)]]


def _read(path: Path) -> dict[str, int] | None:
    """Stored predictions; None where there are none, or the file is damaged, so that they are made again."""
    try:
        content = json.loads(path.read_bytes())
        predictions = {str(image_id): int(label) for image_id, label in content["predictions"].items()}
        intact = content["sha256"] == key(predictions=predictions)
    except (FileNotFoundError, ValueError, KeyError, AttributeError, TypeError):
        return None
    return predictions if intact else None
