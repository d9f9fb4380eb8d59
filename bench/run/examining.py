"""The examination of a job's network and data before its first shard, kept in the run folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, replace
from functools import partial
from itertools import zip_longest
from pathlib import Path

import numpy as np

from axiom_bench.cutting.passes import by_halves
from axiom_bench.data.batch import Batch
from axiom_bench.errors import BenchError
from axiom_bench.evaluation.batch import traced
from axiom_bench.examination.examine import BATCH, Answer, examine
from axiom_bench.records import files
from axiom_bench.run import images
from axiom_bench.run.job import Job
from axiom_bench.run.keys import Keys

EXAMINED, MOST_BATCHES = 64, 3  # images, in batches, at most


def examined(keys: Keys, folder: Path, is_needed: bool) -> tuple[Answer, ...]:
    """Return what an examination finds of the job's network and data, kept in the run folder.

    is_needed: Examine the job if no answer is kept; otherwise the answer is (). Raises BenchError for what makes all
    values meaningless.
    """
    path = folder / f"examination/{keys.step('examination', methods=False)}.json"
    content = files.read_json_or_none(path, keys.job.notes)
    if content is None and not is_needed:
        return ()
    answers = examination(keys.job) if content is None else tuple(Answer(*answer) for answer in content["answers"])
    if stops := [answer.sentence for answer in answers if answer.level == "stop"]:
        raise BenchError(" ".join(stops))
    if content is None:
        files.write_json(path, {"answers": [*map(astuple, answers)]})
    return answers


def examination(job: Job) -> tuple[Answer, ...]:
    """The answers of `examine` on images drawn over the classes, a batch at a time, three at most; () where none can be
    read. Labels are no question where they aren't the model's, or its weights are random."""
    of_classes: dict[tuple[int, ...], list[int]] = {}
    for place in np.random.default_rng(0).permutation(len(job.indices)):
        index = job.indices[place]
        of_classes.setdefault(job.data.labels(index)[:1], []).append(index)
    drawn = [index for each in zip_longest(*of_classes.values()) for index in each if index is not None]
    drawn = drawn[: min(EXAMINED, MOST_BATCHES * job.batch_rows)]
    has_labels = job.target == "label" and job.shares_classes and not job.model.random_weights
    batch = images.first_batch(job if has_labels else replace(job, target="predicted"), drawn, len(drawn), ())
    if batch is None:
        return ()

    def answers(part: Batch, rows: int) -> tuple[Answer, ...]:
        others = [batch[start : start + rows] for start in range(len(part), len(batch), rows)]
        done = job.model.preprocessing
        normalisation = (done.mean, done.std) if done.shape is None else None
        return examine(partial(traced, job.cut_model, part), has_labels, job.class_names, others, normalisation)

    return next(by_halves(batch[: job.batch_rows], job.batch_rows, job.cut_model.limits, answers, job.notes))


def mates(answers: Sequence[Answer]) -> str | None:
    """Return `SplitModel.mates` as the examination has found it; None if there was none."""
    found = [answer for answer in answers if answer.question == BATCH]
    if not found:
        return None
    return "" if found[0].level == "ok" else found[0].sentence
