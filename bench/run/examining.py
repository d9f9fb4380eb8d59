"""Examine a job's network and data before its first shard.

A wrong preprocessing or layer is thus reported before hours of computing.
`axiom_bench.examination` asks the questions. The run folder keeps the answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, replace
from functools import partial
from itertools import zip_longest
from pathlib import Path

import numpy as np

from axiom_bench.cutting.passes import halve_until_it_fits
from axiom_bench.data.batch import Batch
from axiom_bench.errors import BenchError
from axiom_bench.evaluation.batch import traced
from axiom_bench.examination.examine import BATCH, Answer, examine
from axiom_bench.records import files
from axiom_bench.run import images
from axiom_bench.run.job import Job
from axiom_bench.run.keys import Keys

EXAMINED = 64  # at most so many images are examined
MOST_BATCHES = 3  # and at most so many full batches


def examined(keys: Keys, folder: Path, is_needed: bool) -> tuple[Answer, ...]:
    """Return the answers of the examination of a job's network and data.

    Args:
        keys: The keys of the job.
        folder: The run folder, which keeps the answers.
        is_needed: Examine the job if no answers are kept. Otherwise () is returned in this case.

    Raises:
        BenchError: If an answer makes all values meaningless.
    """
    path = folder / f"examination/{keys.step('examination', methods=False)}.json"
    content = files.read_json_or_none(path, keys.job.notes)
    if content is None and not is_needed:
        return ()
    if content is None:
        answers = examination(keys.job)
    else:
        answers = tuple(Answer(*answer) for answer in content["answers"])
    # a job that stops keeps no answers: it is examined again once the user has changed something
    stops = [answer.sentence for answer in answers if answer.level == "stop"]
    if stops:
        raise BenchError(" ".join(stops))
    if content is None:
        files.write_json(path, {"answers": [astuple(answer) for answer in answers]})
    return answers


def examination(job: Job) -> tuple[Answer, ...]:
    """Examine a job on randomly drawn images, the classes in turn, in at most MOST_BATCHES batches.

    Return () if no image can be read. Labels aren't examined if they aren't the model's classes, or
    if the model's weights are random.
    """
    indices_by_class: dict[tuple[int, ...], list[int]] = {}
    # The seed is fixed, so that every run of a job examines the same images.
    for position in np.random.default_rng(0).permutation(len(job.indices)):
        index = job.indices[position]
        indices_by_class.setdefault(job.data.labels(index)[:1], []).append(index)
    drawn: list[int] = []
    for one_per_class in zip_longest(*indices_by_class.values()):
        drawn.extend(index for index in one_per_class if index is not None)
    drawn = drawn[: min(EXAMINED, MOST_BATCHES * job.batch_rows)]
    has_labels = job.target == "label" and job.shares_classes and not job.model.random_weights
    examined_job = job if has_labels else replace(job, target="predicted")
    batch = images.first_batch(examined_job, drawn, len(drawn), ())
    if batch is None:
        return ()

    def examine_part(part: Batch, rows: int) -> tuple[Answer, ...]:
        """Examine the first part of the batch, with the remaining rows as further batches."""
        others = [batch[start : start + rows] for start in range(len(part), len(batch), rows)]
        preprocessing = job.model.preprocessing
        normalisation = (
            (preprocessing.mean, preprocessing.std) if preprocessing.shape is None else None
        )
        return examine(
            partial(traced, job.cut_model, part), has_labels, job.class_names, others, normalisation
        )

    # Only the first part is examined; the other rows serve as its further batches.
    return next(
        halve_until_it_fits(
            batch[: job.batch_rows], job.batch_rows, job.cut_model.limits, examine_part, job.notes
        )
    )


def mates(answers: Sequence[Answer]) -> str | None:
    """Return `SplitModel.mates` according to the examination, or None if there was no
    examination.

    A worker sets it on its cut model, which then needn't check again whether an image's scores
    depend on the other images of its batch.
    """
    batch_answers = [answer for answer in answers if answer.question == BATCH]
    if not batch_answers:
        return None
    return "" if batch_answers[0].level == "ok" else batch_answers[0].sentence
