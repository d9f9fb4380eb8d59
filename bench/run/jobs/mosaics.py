"""data=mosaic: the images that the model names with confidence, and the mosaics that they make."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from axiom_bench.cutting.trace import CutModel
from axiom_bench.data.mosaic import Candidate, MosaicImages, Mosaics
from axiom_bench.errors import BenchError, is_out_of_memory
from axiom_bench.run.computing import compute
from axiom_bench.run.inputs import image_cache
from axiom_bench.run.jobs.job import Job
from axiom_bench.run.jobs.predictions import Prediction, predictions


@dataclass(frozen=True)
class Choice:
    """Which images were chosen, for the manifest. of: their data set. images: those of data.of. of_one_class: of these.
    unreadable: of these, where the model was asked. confident: those that it names with `confidence`, the same as
    of_one_class where that is None. in_mosaics: images that a mosaic shows. classes: of the confident ones.
    """

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
        asked = (
            f" and are named with a probability of at least {self.confidence}" if self.confidence is not None else ""
        )
        unreadable = f" ({self.unreadable} can't be read)" if self.unreadable else ""
        return (
            f"{self.confident} of {self.images} images of {self.of!r}{unreadable} show one class{asked}; "
            f"{self.in_mosaics} of them are in the {self.mosaics} mosaics."
        )


@dataclass(frozen=True)
class Made:
    """A job on mosaics. cut_model: cut anew, since the first image of a cut decides how it runs."""

    job: Job
    cut_model: CutModel
    choice: Choice


def made(job: Job, cut_model: CutModel, folder: Path) -> Made | None:
    """The job on the mosaics that its images make; None for a job on other images.

    Raises BenchError where the model gives no probability, where too few images are named with confidence, and where
    it can't take a mosaic.
    """
    images = job.data
    if not isinstance(images, MosaicImages):
        return None
    candidates = images.candidates(job.indices)
    predicted = {} if images.confidence is None else _predicted(job, images, candidates, cut_model, folder)
    confident = [image for image in candidates if images.confidence is None or _is_named(images, image, predicted)]
    try:
        mosaics = images.mosaics(confident, job.model.preprocessing)
    except BenchError as error:
        named = f", named with a probability of at least {images.confidence}: {len(confident)}" if predicted else ""
        raise BenchError(f"{job.name}: {error} Images of one class: {len(candidates)}{named}.") from error
    choice = Choice(
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
    on_mosaics = replace(job, data=mosaics, indices=tuple(range(len(mosaics))), model=model)
    image_cache.announce(on_mosaics)
    return Made(on_mosaics, _cut(on_mosaics, mosaics), choice)


def _predicted(
    job: Job, images: MosaicImages, candidates: Sequence[Candidate], cut_model: CutModel, folder: Path
) -> dict[str, Prediction]:
    if not job.shares_classes:
        raise BenchError(
            f"{job.name}: the classes of {images.of.name!r} aren't the model's, so it is unknown which images it names "
            "with confidence; set data.confidence=null."
        )
    alone = replace(job, indices=tuple(image.index for image in candidates))
    predicted = predictions(alone, cut_model, folder)
    if any(each.label is not None and each.probability is None for each in predicted.values()):
        raise BenchError(
            f"{job.name}: the model's output has no probabilities, so it names no image with confidence; set "
            "data.confidence=null."
        )
    return predicted


def _is_named(images: MosaicImages, image: Candidate, predicted: dict[str, Prediction]) -> bool:
    """Whether the image's class is the predicted one, with enough probability."""
    prediction = predicted[image.image_id]
    return prediction.label == image.label and (prediction.probability or 0) >= (images.confidence or 0)


def _cut(job: Job, mosaics: Mosaics) -> CutModel:
    """The model, cut, with its first mosaic seen. Raises BenchError where it doesn't answer a mosaic with one row."""
    cut_model = compute.cut_of(job)
    batch = compute.first_row(job)
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
