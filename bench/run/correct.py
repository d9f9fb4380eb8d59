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
from axiom_bench.records import files
from axiom_bench.run import fingerprint
from axiom_bench.run.compute import padded, rows, traced
from axiom_bench.run.job import Job
from axiom_bench.run.progress import progress
from axiom_bench.run.shards import Shard

UNREADABLE = -1
OTHERS = "left out by data.only_correct: the model doesn't name them correctly"  # as the manifest says it


def only_correct(job: Job, whole: CutModel, folder: Path) -> tuple[Job, tuple[str, ...]]:
    """(the job with the images whose predicted class is one of their labels, the ids of the others).

    An image that can't be read stays: its rows say so. The predictions are kept in the run folder, shard by shard, so
    that a run that was stopped goes on. Raises BenchError where no image is left, and where labels aren't the model's.
    """
    if not job.shares_classes:
        raise BenchError(
            f"{job.name}: the classes of {job.data.name!r} aren't the model's, so nobody can tell which images it "
            "names correctly; set data.only_correct=false."
        )
    predicted: dict[str, int] = {}
    missing = [shard for shard in job.shards if not (folder / _file(job, shard)).is_file()]
    with progress(f"{job.name}, predictions", sum(map(len, missing)), Console()) as advance:
        for shard in missing:
            found = json.dumps(_predictions(job, whole, shard))
            files.write(folder / _file(job, shard), found.encode())
            advance(len(shard))
    for shard in job.shards:
        predicted |= _read(folder / _file(job, shard))
    right = {index for index in job.indices if _is_right(job, index, predicted[job.data.ids[index]])}
    if not right:
        raise BenchError(
            f"{job.name}: the model names none of the {len(job.indices)} images correctly; set data.only_correct=false."
        )
    left_out = tuple(job.data.ids[index] for index in job.indices if index not in right)
    return replace(job, indices=tuple(index for index in job.indices if index in right)), left_out


def _is_right(job: Job, index: int, predicted: int) -> bool:
    return predicted == UNREADABLE or predicted in job.data.labels(index)


def _file(job: Job, shard: Shard) -> str:
    contents = [job.contents[index] for index in shard.indices]
    return f"predictions/{fingerprint.of_file(fingerprint.of_job(job), contents, None, ())[:40]}.json"


def _predictions(job: Job, whole: CutModel, shard: Shard) -> dict[str, int]:
    """{image id: predicted class}, as a trace of the image has it."""
    found: dict[str, int] = {}
    for batch in rows(replace(job, target="predicted"), shard.indices):
        if isinstance(batch, BadImage):
            found[batch.image_id] = UNREADABLE
        else:
            found.update(zip(batch.image_ids, _classes(job, whole, batch), strict=True))
    return found


def _classes(job: Job, whole: CutModel, batch: Batch) -> list[int]:
    logits = traced(whole, padded(batch, job.batch_size)).logits
    return [int(label) for label in logits.argmax(1)[: len(batch)]]


def _read(path: Path) -> dict[str, int]:
    try:
        return {str(image_id): int(label) for image_id, label in json.loads(path.read_bytes()).items()}
    except (ValueError, AttributeError) as error:
        raise BenchError(f"The predictions {path} can't be read ({error}); delete the file and run again.") from error


def said(left_out: Sequence[str], images: int) -> tuple[str, ...]:
    """What a run says of the images left out, of so many chosen; nothing where there are none."""
    if not left_out:
        return ()
    return (f"{len(left_out)} of {images} images are left out: the model doesn't name them correctly.",)
