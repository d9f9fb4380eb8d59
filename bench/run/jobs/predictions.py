"""What each model predicts for each image, before anything else: some settings choose the images by it.

data.only_correct: those that the model names correctly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path

from axiom_bench.cutting.passes import by_halves
from axiom_bench.cutting.trace import CutModel
from axiom_bench.data.base import BadImage
from axiom_bench.data.batch import Batch
from axiom_bench.errors import BenchError
from axiom_bench.evaluation.shard import padded, traced
from axiom_bench.records import files, sealed
from axiom_bench.records.holdings import key
from axiom_bench.run.computing.compute import rows
from axiom_bench.run.jobs.facts import Facts
from axiom_bench.run.jobs.job import Job, Shard
from axiom_bench.run.progress import progress


@dataclass(frozen=True)
class Prediction:
    """label: the predicted class; None for an image that can't be read. probability: of that class; None where the
    model's output has none."""

    label: int | None
    probability: float | None = None


UNREADABLE = Prediction(None)


def predictions(job: Job, cut_model: CutModel, folder: Path) -> dict[str, Prediction]:
    """{image id: what the model predicts}, of all of the job's images.

    Kept in the run folder, shard by shard, so that a run that was stopped goes on.
    """
    facts, of_all = Facts(job), replace(job, target="predicted")  # once: a job keeps what it looks up of its images
    paths = {shard: folder / f"predictions/{key(predictions=facts.shard(shard))}.json" for shard in job.shards}
    stored = {shard: _read(path) for shard, path in paths.items()}
    missing = [shard for shard, of_shard in stored.items() if of_shard is None]
    with progress(f"{job.name}, predictions", sum(map(len, missing))) as shown:
        for shard in missing:
            of_shard = stored[shard] = _of_shard(of_all, cut_model, shard, job.batch_rows)
            content = {name: [each.label, each.probability] for name, each in of_shard.items()}
            sealed.write_json(paths[shard], {"predictions": content})
            shown.advance(len(shard))
    return {name: each for of_shard in stored.values() for name, each in (of_shard or {}).items()}


def _of_shard(job: Job, cut_model: CutModel, shard: Shard, batch_rows: int) -> dict[str, Prediction]:
    """{image id: prediction}, as a trace of the image has it."""
    made: dict[str, Prediction] = {}
    for batch in rows(job, shard.indices):
        if isinstance(batch, BadImage):
            made[batch.image_id] = UNREADABLE
        else:
            predict = partial(_of_batch, cut_model)
            answers = by_halves(batch, batch_rows, cut_model.limits, predict)
            made.update(zip(batch.image_ids, chain.from_iterable(answers), strict=True))
    return made


def _of_batch(cut_model: CutModel, batch: Batch, batch_rows: int) -> list[Prediction]:
    trace = traced(cut_model, padded(batch, batch_rows))
    logits = trace.logits[: len(batch)]
    labels = logits.argmax(1)
    if not trace.has_probability:
        return [Prediction(int(label)) for label in labels]
    probabilities = logits.double().softmax(1).gather(1, labels[:, None])[:, 0]
    return [Prediction(*each) for each in zip(labels.tolist(), probabilities.tolist(), strict=True)]


def _read(path: Path) -> dict[str, Prediction] | None:
    """Stored predictions; None where there are none, or the file is damaged, so that they are made again."""
    content = sealed.read_json_or_none(path)
    if content is None:
        return None
    try:
        return {name: Prediction(*each) for name, each in content["predictions"].items()}
    except (KeyError, AttributeError, TypeError):
        files.warn_damaged(path)
        return None


def only_correct(job: Job, cut_model: CutModel, folder: Path) -> tuple[Job, tuple[str, ...]]:
    """(the job with the images whose predicted class is one of their labels, the ids of the others).

    An image that can't be read stays: its rows say so. Raises BenchError where no image is left, and where labels
    aren't the model's.
    """
    if not job.shares_classes:
        raise BenchError(
            f"{job.name}: the classes of {job.data.name!r} aren't the model's, so it is unknown which images it "
            "names correctly; set data.only_correct=false."
        )
    predicted = predictions(job, cut_model, folder)
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


def _is_right(job: Job, index: int, predicted: Prediction) -> bool:
    return predicted.label is None or predicted.label in job.data.labels(index)
