"""A job made ready to compute: loaded, its model cut, and on the images that it explains."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from axiom_bench.cutting.trace import CutModel
from axiom_bench.data.mosaic import MosaicImages
from axiom_bench.records import mirror
from axiom_bench.run.composing import settings
from axiom_bench.run.composing.device import keep_freed_memory
from axiom_bench.run.computing import compute
from axiom_bench.run.inputs import image_cache
from axiom_bench.run.jobs import mosaics, predictions
from axiom_bench.run.jobs.job import Job, keep_hashes, read_hashes

OTHERS = "left out by data.only_correct: the model doesn't name them correctly"  # in the manifest


def loaded(config: Mapping[str, Any], folder: Path) -> tuple[Job, CutModel]:
    """The job of a configuration, and its model on its device, cut. Raises BenchError."""
    settings.check(config)
    mirror.pull(folder)
    job = Job.of(config)
    job.device.prepare()
    keep_freed_memory()
    return job, compute.cut_of(job)


@dataclass(frozen=True)
class ReadyJob:
    """A job on the images to explain. indices: also of those that data.only_correct leaves out; left_out: their ids.
    others: why they are left out, where some may be. made_of: which images mosaics were made of."""

    job: Job
    cut_model: CutModel
    indices: tuple[int, ...]
    left_out: tuple[str, ...]
    others: str | None
    made_of: mosaics.Choice | None

    @staticmethod
    def of(job: Job, cut_model: CutModel, only_correct: bool, folder: Path) -> ReadyJob:
        """only_correct: on the images that the model names correctly alone. Raises BenchError where none is left."""
        job = replace(job, hashes=read_hashes(folder))
        if not isinstance(job.data, MosaicImages) or job.data.confidence is not None:  # else they aren't read alone
            image_cache.announce(job)
        made = mosaics.made(job, cut_model, folder)
        if made is not None:
            job, cut_model = made.job, made.cut_model
        indices = job.indices
        left_out: tuple[str, ...] = ()
        if only_correct:
            job, left_out = predictions.only_correct(job, cut_model, folder)
        ready = compute.decided(job, cut_model)
        keep_hashes(ready, folder)
        made_of = None if made is None else made.choice
        return ReadyJob(ready, cut_model, indices, left_out, OTHERS if only_correct else None, made_of)

    def lines(self) -> tuple[str, ...]:
        """For the user."""
        made_of = () if self.made_of is None else (self.made_of.line(),)
        return (*self.job.notes, *made_of, *predictions.note(self.left_out, len(self.indices)))
