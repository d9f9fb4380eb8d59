"""The images that a model's predictions choose: those that it names correctly (data.only_correct), or mosaics of those
that it names with confidence (data=mosaic)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path

from axiom_bench.cutting.passes import by_halves
from axiom_bench.cutting.trace import CutModel
from axiom_bench.data.base import BadImage
from axiom_bench.data.batch import Batch
from axiom_bench.data.mosaic import Candidate, MosaicImages, Mosaics
from axiom_bench.errors import BenchError, is_out_of_memory
from axiom_bench.evaluation.batch import traced
from axiom_bench.notes import DamagedFile, Notes
from axiom_bench.records import files
from axiom_bench.records.record_files import key
from axiom_bench.run.images import announce, first_row, rows
from axiom_bench.run.job import Job, Shard, cut_of
from axiom_bench.run.keys import Keys
from axiom_bench.run.progress import progress

OTHERS = "left out by data.only_correct: the model doesn't name them correctly"  # in the manifest


@dataclass(frozen=True)
class Prediction:
    """label: the predicted class; None for an image that can't be read. probability: of that class; None where the
    model's output has none."""

    label: int | None
    probability: float | None = None


def predictions(job: Job, folder: Path) -> dict[str, Prediction]:
    """{image id: what the model predicts}, of all of the job's images. Kept in the run folder, shard by shard, so that
    a run that was stopped goes on."""
    keys, of_all = Keys(job), replace(job, target="predicted")  # once: a job keeps what it looks up of its images
    paths = {shard: folder / f"predictions/{key(predictions=keys.shard(shard))}.json" for shard in job.shards}
    stored = {shard: _read(path, job.notes) for shard, path in paths.items()}
    missing = [shard for shard, of_shard in stored.items() if of_shard is None]
    with progress(f"{job.name}, predictions", sum(map(len, missing))) as shown:
        for shard in missing:
            of_shard = stored[shard] = _of_shard(of_all, shard, job.batch_rows)
            content = {name: [each.label, each.probability] for name, each in of_shard.items()}
            files.write_json(paths[shard], {"predictions": content})
            shown.advance(len(shard))
    return {name: each for of_shard in stored.values() for name, each in (of_shard or {}).items()}


def _of_shard(job: Job, shard: Shard, batch_rows: int) -> dict[str, Prediction]:
    made: dict[str, Prediction] = {}
    for batch in rows(job, shard):
        if isinstance(batch, BadImage):
            made[batch.image_id] = Prediction(None)
        else:
            predict = partial(_of_batch, job.cut_model)
            answers = by_halves(batch, batch_rows, job.cut_model.limits, predict, job.notes)
            made.update(zip(batch.image_ids, chain.from_iterable(answers), strict=True))
    return made


def _of_batch(cut_model: CutModel, batch: Batch, batch_rows: int) -> list[Prediction]:
    trace = traced(cut_model, batch.repeated(batch_rows))
    logits = trace.logits[: len(batch)]
    labels = logits.argmax(1)
    if not trace.has_probability:
        return [Prediction(int(label)) for label in labels]
    probabilities = logits.double().softmax(1).gather(1, labels[:, None])[:, 0]
    return [Prediction(*each) for each in zip(labels.tolist(), probabilities.tolist(), strict=True)]


def _read(path: Path, notes: Notes) -> dict[str, Prediction] | None:
    """Return stored predictions; None if there are none, or the file is damaged, so that they are made again."""
    content = files.read_json_or_none(path, notes)
    if content is None:
        return None
    try:
        return {name: Prediction(*each) for name, each in content["predictions"].items()}
    except (KeyError, AttributeError, TypeError):
        notes.add(DamagedFile(str(path)))
        return None


def only_correct(job: Job, folder: Path) -> Job:
    """The job with the images whose predicted class is one of their labels. An image that
    can't be read stays: its rows say so. Raises BenchError where no image is left, and where labels aren't the
    model's."""
    if not job.shares_classes:
        raise BenchError(
            f"{job.name}: the classes of {job.data.name!r} aren't the model's, so it is unknown which images it "
            "names correctly; set data.only_correct=false."
        )
    labels = {name: prediction.label for name, prediction in predictions(job, folder).items()}
    ids = job.data.ids
    right = tuple(index for index in job.indices if labels[ids[index]] in (None, *job.data.labels(index)))
    if not right:
        raise BenchError(
            f"{job.name}: the model names none of the {len(job.indices)} images correctly; set data.only_correct=false."
        )
    kept = set(right)
    left_out = tuple(ids[index] for index in job.indices if index not in kept)
    return replace(job, indices=right, left_out=left_out, others=OTHERS)


def on_mosaics(job: Job, images: MosaicImages, folder: Path) -> Job:
    """The job on the mosaics that its images make, its model cut anew (a cut's first image decides how it runs). Raises
    BenchError where the model gives no probability, where too few images are named with confidence, and where it can't
    take a mosaic."""
    candidates = images.candidates(job.indices)
    predicted = {} if images.confidence is None else _predicted(job, images, candidates, folder)
    confident = [image for image in candidates if images.confidence is None or _is_named(images, image, predicted)]
    try:
        mosaics = images.mosaics(confident, job.model.preprocessing)
    except BenchError as error:
        named = f", named with a probability of at least {images.confidence}: {len(confident)}" if predicted else ""
        raise BenchError(f"{job.name}: {error} Images of one class: {len(candidates)}{named}.") from error
    made_of = {
        "of": images.of.name,
        "images": len(job.indices),
        "of_one_class": len(candidates),
        "unreadable": sum(each.label is None for each in predicted.values()),
        "confidence": images.confidence,
        "confident": len(confident),
        "classes": len({image.label for image in confident}),
        "mosaics": len(mosaics),
        "in_mosaics": len({image.index for layout in mosaics.layouts for image in layout.cells}),
    }
    model = replace(job.model, preprocessing=mosaics.preprocessing)
    job = replace(job, data=mosaics, indices=tuple(range(len(mosaics))), model=model, made_of=made_of)
    announce(job)
    return replace(job, cut_model=_cut(job, mosaics))


def _predicted(job: Job, images: MosaicImages, candidates: Sequence[Candidate], folder: Path) -> dict[str, Prediction]:
    if not job.shares_classes:
        raise BenchError(
            f"{job.name}: the classes of {images.of.name!r} aren't the model's, so it is unknown which images it names "
            "with confidence; set data.confidence=null."
        )
    predicted = predictions(replace(job, indices=tuple(image.index for image in candidates)), folder)
    if any(each.label is not None and each.probability is None for each in predicted.values()):
        raise BenchError(
            f"{job.name}: the model's output has no probabilities, so it names no image with confidence; set "
            "data.confidence=null."
        )
    return predicted


def _is_named(images: MosaicImages, image: Candidate, predicted: Mapping[str, Prediction]) -> bool:
    prediction = predicted[image.image_id]
    return prediction.label == image.label and (prediction.probability or 0) >= (images.confidence or 0)


def _cut(job: Job, mosaics: Mosaics) -> CutModel:
    """The model, cut, with its first mosaic seen. Raises BenchError where it doesn't answer a mosaic with one row."""
    cut_model = cut_of(job.model, job.device, job.notes)
    batch = first_row(job)
    if batch is None:  # no mosaic can be read: each has a row that says so
        return cut_model
    try:
        cut_model.trace(batch.images, batch.targets)
    except Exception as error:
        if is_out_of_memory(error):
            raise
        height, width = batch.images.shape[-2:]
        reason = (str(error).strip().split("\n")[0] or type(error).__name__).rstrip(".")
        fit = "set data.cell=fit" if mosaics.images.cell == "full" else "choose another model"
        raise BenchError(
            f"{job.name}: the model can't take mosaics of {height} x {width} pixels ({reason}); {fit}."
        ) from error
    return cut_model
