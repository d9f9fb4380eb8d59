"""data.only_correct: the images that the model names correctly, decided by its own prediction before anything else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from axiom_bench.cutting.cut_model import CutModel
from axiom_bench.errors import BenchError
from axiom_bench.run.job import Job
from axiom_bench.run.predictions import Prediction, predictions

OTHERS = "left out by data.only_correct: the model doesn't name them correctly"  # in the manifest


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
