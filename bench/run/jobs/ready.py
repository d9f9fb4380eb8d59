"""A job made ready to compute: loaded, its model cut, and on the images that its predictions choose: those that it
names correctly (data.only_correct), or mosaics of those that it names with confidence (data=mosaic)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from axiom_bench.cutting.passes import by_halves
from axiom_bench.cutting.trace import CutModel
from axiom_bench.data.base import BadImage
from axiom_bench.data.batch import Batch
from axiom_bench.data.mosaic import Candidate, MosaicImages, Mosaics
from axiom_bench.errors import BenchError, is_out_of_memory
from axiom_bench.evaluation.shard import padded, traced
from axiom_bench.records import files, mirror
from axiom_bench.records.holdings import key
from axiom_bench.run.composing import settings
from axiom_bench.run.computing import compute
from axiom_bench.run.computing.isolated import chosen_methods
from axiom_bench.run.inputs import images as image_cache
from axiom_bench.run.inputs.images import first_row, rows
from axiom_bench.run.jobs.facts import Facts
from axiom_bench.run.jobs.job import Job, Shard, keep_hashes, read_hashes
from axiom_bench.run.progress import progress

OTHERS = "left out by data.only_correct: the model doesn't name them correctly"  # in the manifest


def loaded(config: Mapping[str, Any], folder: Path, isolate: bool = False) -> tuple[Job, CutModel]:
    """The job of a configuration, and its model on its device, cut. isolate: see `chosen_methods`. Raises
    BenchError."""
    settings.check(config)
    mirror.pull(folder)
    job = Job.of(config, chosen_methods(config, isolate))
    job.device.prepare()
    settings.keep_freed_memory()
    return job, compute.cut_of(job.model, job.device)


@dataclass(frozen=True)
class MosaicChoice:
    """Which images were chosen, for the manifest. of: their data set. images: those of data.of. of_one_class: of these.
    unreadable: of these, where the model was asked. confident: those that it names with `confidence`, the same as
    of_one_class where that is None. in_mosaics: images that a mosaic shows. classes: of the confident ones."""

    of: str
    images: int
    of_one_class: int
    unreadable: int
    confidence: float | None
    confident: int
    classes: int
    mosaics: int
    in_mosaics: int

    def line(self) -> str:
        """For the user."""
        sure = f" and are named with a probability of at least {self.confidence}" if self.confidence is not None else ""
        unreadable = f" ({self.unreadable} can't be read)" if self.unreadable else ""
        return (
            f"{self.confident} of {self.images} images of {self.of!r}{unreadable} show one class{sure}; "
            f"{self.in_mosaics} of them are in the {self.mosaics} mosaics."
        )


@dataclass(frozen=True)
class ReadyJob:
    """A job on the images to explain. indices: also of those that data.only_correct leaves out; left_out: their ids.
    others: why they are left out, where some may be. made_of: which images mosaics were made of."""

    job: Job
    cut_model: CutModel
    indices: tuple[int, ...]
    left_out: tuple[str, ...]
    others: str | None
    made_of: MosaicChoice | None

    @staticmethod
    def of(job: Job, cut_model: CutModel, only_correct: bool, folder: Path) -> ReadyJob:
        """only_correct: on the images that the model names correctly alone. Raises BenchError where none is left."""
        job, made_of = replace(job, hashes=read_hashes(folder)), None
        if not isinstance(job.data, MosaicImages) or job.data.confidence is not None:  # else they aren't read alone
            image_cache.announce(job)
        if isinstance(job.data, MosaicImages):
            job, cut_model, made_of = _on_mosaics(job, job.data, cut_model, folder)
        indices = job.indices
        left_out: tuple[str, ...] = ()
        if only_correct:
            job, left_out = _only_correct(job, cut_model, folder)
        job = compute.decided(job, cut_model)
        keep_hashes(job, folder)
        return ReadyJob(job, cut_model, indices, left_out, OTHERS if only_correct else None, made_of)

    def lines(self) -> tuple[str, ...]:
        """For the user."""
        made_of = () if self.made_of is None else (self.made_of.line(),)
        count = f"{len(self.left_out)} of {len(self.indices)} images are left out"
        left_out = (f"{count}: the model doesn't name them correctly.",) if self.left_out else ()
        return (*self.job.notes, *made_of, *left_out)


@dataclass(frozen=True)
class Prediction:
    """label: the predicted class; None for an image that can't be read. probability: of that class; None where the
    model's output has none."""

    label: int | None
    probability: float | None = None


def predictions(job: Job, cut_model: CutModel, folder: Path) -> dict[str, Prediction]:
    """{image id: what the model predicts}, of all of the job's images. Kept in the run folder, shard by shard, so that
    a run that was stopped goes on."""
    facts, of_all = Facts(job), replace(job, target="predicted")  # once: a job keeps what it looks up of its images
    paths = {shard: folder / f"predictions/{key(predictions=facts.shard(shard))}.json" for shard in job.shards}
    stored = {shard: _read(path) for shard, path in paths.items()}
    missing = [shard for shard, of_shard in stored.items() if of_shard is None]
    with progress(f"{job.name}, predictions", sum(map(len, missing))) as shown:
        for shard in missing:
            of_shard = stored[shard] = _of_shard(of_all, cut_model, shard, job.batch_rows)
            content = {name: [each.label, each.probability] for name, each in of_shard.items()}
            files.write_json(paths[shard], {"predictions": content})
            shown.advance(len(shard))
    return {name: each for of_shard in stored.values() for name, each in (of_shard or {}).items()}


def _of_shard(job: Job, cut_model: CutModel, shard: Shard, batch_rows: int) -> dict[str, Prediction]:
    made: dict[str, Prediction] = {}
    for batch in rows(job, shard):
        if isinstance(batch, BadImage):
            made[batch.image_id] = Prediction(None)
        else:
            answers = by_halves(batch, batch_rows, cut_model.limits, partial(_of_batch, cut_model))
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
    content = files.read_json_or_none(path)
    if content is None:
        return None
    try:
        return {name: Prediction(*each) for name, each in content["predictions"].items()}
    except (KeyError, AttributeError, TypeError):
        files.warn_damaged(path)
        return None


def _only_correct(job: Job, cut_model: CutModel, folder: Path) -> tuple[Job, tuple[str, ...]]:
    """(the job with the images whose predicted class is one of their labels, the ids of the others). An image that
    can't be read stays: its rows say so. Raises BenchError where no image is left, and where labels aren't the
    model's."""
    if not job.shares_classes:
        raise BenchError(
            f"{job.name}: the classes of {job.data.name!r} aren't the model's, so it is unknown which images it "
            "names correctly; set data.only_correct=false."
        )
    labels = {name: prediction.label for name, prediction in predictions(job, cut_model, folder).items()}
    ids = job.data.ids
    right = tuple(index for index in job.indices if labels[ids[index]] in (None, *job.data.labels(index)))
    if not right:
        raise BenchError(
            f"{job.name}: the model names none of the {len(job.indices)} images correctly; set data.only_correct=false."
        )
    kept = set(right)
    return replace(job, indices=right), tuple(ids[index] for index in job.indices if index not in kept)


def _on_mosaics(
    job: Job, images: MosaicImages, cut_model: CutModel, folder: Path
) -> tuple[Job, CutModel, MosaicChoice]:
    """The job on the mosaics that its images make, its model cut anew (a cut's first image decides how it runs). Raises
    BenchError where the model gives no probability, where too few images are named with confidence, and where it can't
    take a mosaic."""
    candidates = images.candidates(job.indices)
    predicted = {} if images.confidence is None else _predicted(job, images, candidates, cut_model, folder)
    confident = [image for image in candidates if images.confidence is None or _is_named(images, image, predicted)]
    try:
        mosaics = images.mosaics(confident, job.model.preprocessing)
    except BenchError as error:
        named = f", named with a probability of at least {images.confidence}: {len(confident)}" if predicted else ""
        raise BenchError(f"{job.name}: {error} Images of one class: {len(candidates)}{named}.") from error
    choice = MosaicChoice(
        of=images.of.name,
        images=len(job.indices),
        of_one_class=len(candidates),
        unreadable=sum(each.label is None for each in predicted.values()),
        confidence=images.confidence,
        confident=len(confident),
        classes=len({image.label for image in confident}),
        mosaics=len(mosaics),
        in_mosaics=len({image.index for layout in mosaics.layouts for image in layout.cells}),
    )
    model = replace(job.model, preprocessing=mosaics.preprocessing)
    job = replace(job, data=mosaics, indices=tuple(range(len(mosaics))), model=model)
    image_cache.announce(job)
    return job, _cut(job, mosaics), choice


def _predicted(
    job: Job, images: MosaicImages, candidates: Sequence[Candidate], cut_model: CutModel, folder: Path
) -> dict[str, Prediction]:
    if not job.shares_classes:
        raise BenchError(
            f"{job.name}: the classes of {images.of.name!r} aren't the model's, so it is unknown which images it names "
            "with confidence; set data.confidence=null."
        )
    predicted = predictions(replace(job, indices=tuple(image.index for image in candidates)), cut_model, folder)
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
    cut_model, batch = compute.cut_of(job.model, job.device), first_row(job)
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
