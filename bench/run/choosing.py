"""Choose images by the model's predictions, before anything is explained.

data.only_correct keeps the images that the model classifies correctly, as many papers do.
data=mosaic makes mosaics of the images that the model classifies with confidence. A worker calls
both while it prepares a job.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path

from axiom_bench.cutting.cut_model import CutModel
from axiom_bench.cutting.passes import halve_until_it_fits
from axiom_bench.data.base import BadImage
from axiom_bench.data.batch import Batch
from axiom_bench.data.mosaic import Candidate, MosaicImages, Mosaics
from axiom_bench.errors import BenchError, is_out_of_memory, plural
from axiom_bench.evaluation.batch import traced
from axiom_bench.notes import DamagedFile, Notes
from axiom_bench.records import files
from axiom_bench.records.record_files import key
from axiom_bench.run.images import announce, first_row, rows
from axiom_bench.run.job import Job, Shard, cut_at_layer
from axiom_bench.run.keys import Keys
from axiom_bench.run.progress import progress

# the manifest has this sentence
OTHERS = "left out by data.only_correct: the model doesn't classify them correctly"


@dataclass(frozen=True)
class Prediction:
    """The model's prediction for one image."""

    label: int | None
    """The predicted class; None if the image can't be read."""
    probability: float | None = None
    """The probability of that class; None if the model's output has no probability."""


def predictions(job: Job, folder: Path) -> dict[str, Prediction]:
    """Return {image id: prediction} for all images of the job.

    The run folder keeps the predictions of each shard, so that a stopped run continues.
    """
    keys = Keys(job)
    # one copy for all shards, since a job caches facts of its images
    predicting_job = replace(job, target="predicted")
    paths = {
        shard: folder / f"predictions/{key(predictions=keys.shard(shard))}.json"
        for shard in job.shards
    }
    stored = {shard: _read(path, job.notes) for shard, path in paths.items()}
    missing = [shard for shard, shard_predictions in stored.items() if shard_predictions is None]
    with progress(f"{job.name}: predicting classes", sum(map(len, missing))) as display:
        for shard in missing:
            computed = _predict_shard(predicting_job, shard, job.batch_rows)
            stored[shard] = computed
            content = {
                image: [prediction.label, prediction.probability]
                for image, prediction in computed.items()
            }
            files.write_json(paths[shard], {"predictions": content})
            display.advance(len(shard))
    all_predictions: dict[str, Prediction] = {}
    for shard_predictions in stored.values():
        all_predictions.update(shard_predictions or {})
    return all_predictions


def _predict_shard(job: Job, shard: Shard, batch_rows: int) -> dict[str, Prediction]:
    """Return {image id: prediction} for the images of a shard."""
    predicted: dict[str, Prediction] = {}
    predict = partial(_predict_batch, job.cut_model)
    for batch in rows(job, shard):
        if isinstance(batch, BadImage):
            predicted[batch.image_id] = Prediction(None)
        else:
            parts = halve_until_it_fits(batch, batch_rows, job.cut_model.limits, predict, job.notes)
            predicted.update(zip(batch.image_ids, chain.from_iterable(parts), strict=True))
    return predicted


def _predict_batch(cut_model: CutModel, batch: Batch, batch_rows: int) -> list[Prediction]:
    """Return a prediction for each row of a batch, which is padded to `batch_rows` rows."""
    trace = traced(cut_model, batch.repeated(batch_rows))
    logits = trace.logits[: len(batch)]
    labels = logits.argmax(1)
    if not trace.has_probability:
        return [Prediction(int(label)) for label in labels]
    probabilities = logits.double().softmax(1).gather(1, labels[:, None])[:, 0]
    return [
        Prediction(label, probability)
        for label, probability in zip(labels.tolist(), probabilities.tolist(), strict=True)
    ]


def _read(path: Path, notes: Notes) -> dict[str, Prediction] | None:
    """Return stored predictions, or None if the file is missing or damaged, so that they are
    computed again.
    """
    content = files.read_json_or_none(path, notes)
    if content is None:
        return None
    try:
        return {image: Prediction(*values) for image, values in content["predictions"].items()}
    except (KeyError, AttributeError, TypeError):
        notes.add(DamagedFile(str(path)))
        return None


def only_correct(job: Job, folder: Path) -> Job:
    """Return the job on the images whose predicted class is one of their labels.

    An image that can't be read stays in the job, and its rows say so. Raise BenchError if no image
    is left, or if the labels aren't classes of the model.
    """
    if not job.shares_classes:
        raise BenchError(
            f"{job.name}: the classes of {job.data.name!r} aren't the model's, so it is unknown "
            "which images it classifies correctly; set data.only_correct=false."
        )
    labels = {name: prediction.label for name, prediction in predictions(job, folder).items()}
    ids = job.data.ids
    correct = tuple(
        index for index in job.indices if labels[ids[index]] in (None, *job.data.labels(index))
    )
    if not correct:
        raise BenchError(
            f"{job.name}: the model classifies none of {plural(len(job.indices), 'image')} "
            "correctly; set data.only_correct=false."
        )
    kept = set(correct)
    left_out = tuple(ids[index] for index in job.indices if index not in kept)
    return replace(job, indices=correct, left_out=left_out, left_out_reason=OTHERS)


def use_mosaics(job: Job, images: MosaicImages, folder: Path) -> Job:
    """Return the job on mosaics of its images. Its model is cut again, since the first image
    decides how a cut runs.

    Args:
        job: The job, on the images that mosaics may contain.
        images: The job's data set.
        folder: The run folder.

    Raises:
        BenchError: If the model has no probability, if it classifies too few images with
            confidence, or if it can't take a mosaic.
    """
    candidates = images.candidates(job.indices)
    predicted: dict[str, Prediction] = {}
    confident = list(candidates)
    if images.confidence is not None:
        predicted = _predictions_with_probability(job, images, candidates, folder)
        confident = []
        for image in candidates:
            prediction = predicted[image.image_id]
            probability = prediction.probability or 0  # None: the image can't be read
            if prediction.label == image.label and probability >= images.confidence:
                confident.append(image)
    try:
        mosaics = images.mosaics(confident, job.model.preprocessing)
    except BenchError as error:
        named = ""
        if predicted:
            named = (
                f", predicted with a probability of at least {images.confidence}: {len(confident)}"
            )
        raise BenchError(
            f"{job.name}: {error} Images of one class: {len(candidates)}{named}."
        ) from error
    sources_in_mosaics = {image.index for layout in mosaics.layouts for image in layout.cells}
    unreadable = sum(prediction.label is None for prediction in predicted.values())
    # the manifest has these counts, so that a reader sees how the images were selected
    made_of = {
        "of": images.of.name,
        "images": len(job.indices),
        "of_one_class": len(candidates),
        "unreadable": unreadable,
        "confidence": images.confidence,
        "confident": len(confident),
        "classes": len({image.label for image in confident}),
        "mosaics": len(mosaics),
        "in_mosaics": len(sources_in_mosaics),
    }
    model = replace(job.model, preprocessing=mosaics.preprocessing)
    job = replace(
        job, data=mosaics, indices=tuple(range(len(mosaics))), model=model, mosaic_sources=made_of
    )
    announce(job)
    return replace(job, cut_model=_cut_for_mosaics(job, mosaics))


def _predictions_with_probability(
    job: Job,
    images: MosaicImages,
    candidates: Sequence[Candidate],
    folder: Path,
) -> dict[str, Prediction]:
    """Return {image id: prediction} for the candidates. Raise BenchError if the model has no
    probability for them.
    """
    if not job.shares_classes:
        raise BenchError(
            f"{job.name}: the classes of {images.of.name!r} aren't the model's, so it is unknown "
            "which images it predicts with confidence; set data.confidence=null."
        )
    candidate_job = replace(job, indices=tuple(image.index for image in candidates))
    predicted = predictions(candidate_job, folder)
    # an image that can't be read has neither label nor probability, and says nothing of the output
    readable = [prediction for prediction in predicted.values() if prediction.label is not None]
    if any(prediction.probability is None for prediction in readable):
        raise BenchError(
            f"{job.name}: the model's output has no probabilities, so it predicts no class with "
            "confidence; set data.confidence=null."
        )
    return predicted


def _cut_for_mosaics(job: Job, mosaics: Mosaics) -> CutModel:
    """Cut the model and trace its first mosaic. Raise BenchError if the model can't take
    mosaics.
    """
    cut_model = cut_at_layer(job.model, job.device, job.notes)
    batch = first_row(job)
    if batch is None:  # no mosaic can be read, and each has a row that says so
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
            f"{job.name}: the model can't take mosaics of {height} x {width} pixels ({reason}); "
            f"{fit}."
        ) from error
    return cut_model
