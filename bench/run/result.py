"""What is known of a job as it goes on: prepared, computed in shards, finished, or failed. It travels between
processes."""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from omegaconf.errors import OmegaConfBaseException

from axiom_bench.errors import BenchError, is_out_of_memory
from axiom_bench.examination.examine import Answer
from axiom_bench.notes import Notes
from axiom_bench.records.entries import Facts
from axiom_bench.records.record_files import Values
from axiom_bench.run.composing.settings import Settings


class Failure(Exception):
    """Why a job ended early; a plug-in's own error may not travel. mendable: by the user. trace: where it happened, for
    a bug report. is_tainted: a plug-in changed what others read, so that what was computed beside it can't stay."""

    def __init__(self, message: str, mendable: bool = True, trace: str = "", is_tainted: bool = False) -> None:
        super().__init__(message, mendable, trace, is_tainted)  # what pickle hands on
        self.message, self.mendable, self.trace, self.is_tainted = message, mendable, trace, is_tainted

    @staticmethod
    def of(error: BaseException) -> Failure:
        """What an error is to the user."""
        if isinstance(error, Failure):
            return error
        is_tainted, first_line = getattr(error, "is_tainted", False), str(error).strip().partition("\n")[0]
        if isinstance(error, BenchError):
            return Failure(str(error), is_tainted=is_tainted)
        if isinstance(error, OmegaConfBaseException):
            return Failure(first_line)
        if is_out_of_memory(error):  # where no pass is to be halved, as in moving a network to its device
            return Failure(f"Out of memory ({first_line}); free some, or use another machine.")
        notes = getattr(error, "__notes__", [])  # which plug-in raised it: the user can mend that
        message = ", ".join([f"{type(error).__name__}: {error}", *notes])
        return Failure(message, bool(notes), "".join(traceback.format_exception(error)), is_tainted)


@dataclass(frozen=True)
class PreparedJob:
    """A job that is loaded and checked, before its shards are computed.

    Attributes:
        job: Its name.
        target: The rule that names the class to explain, which the data decide where none is set.
        facts: Its share of the manifest.
        images: How many images are explained.
        left_out: The ids of those that data.only_correct leaves out.
        shards: {key: number of images} of all shards.
        missing: The keys of shards that lack values.
        cost: A sentence if the ablation drops of these are costly.
        damaged: Names of damaged record files.
        lines: Sentences for the end of the command.
        notes: Sentences that a worker has collected.
        seconds: Of each stage.
        values: {method: {metric: key}}, to be taken from the records.
        answers: Of the examination.
    """

    job: str
    target: str
    facts: Facts
    images: int
    left_out: tuple[str, ...]
    shards: Mapping[str, int]
    missing: Sequence[str]
    cost: str | None
    damaged: Sequence[str]
    lines: tuple[str, ...]
    notes: Notes
    seconds: Mapping[str, float]
    values: Values
    answers: tuple[Answer, ...]


@dataclass(frozen=True)
class ShardResult:
    """What was computed of a job's shards.

    Attributes:
        shards: How many were computed.
        images: How many images they have.
        written: Names of record files.
        seconds: Of each part, see `evaluation.stopwatch`.
        processor: Seconds of all threads.
        passes: Of the model, counted in images, with the rows that pad a batch.
        notes: Sentences that a worker has collected.
    """

    shards: int = 0
    images: int = 0
    written: tuple[str, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    processor: float = 0.0
    passes: Mapping[str, int] = field(default_factory=dict)
    notes: Notes = field(default_factory=Notes)

    def __add__(self, other: ShardResult) -> ShardResult:
        """Return what both have computed."""
        return ShardResult(
            shards=self.shards + other.shards,
            images=self.images + other.images,
            written=self.written + other.written,
            seconds=sums(self.seconds, other.seconds),
            processor=self.processor + other.processor,
            passes=sums(self.passes, other.passes),
            notes=self.notes + other.notes,
        )

    def work(self, wall: float) -> dict[str, float]:
        """Return the job's entry in the manifest's "work"; empty if nothing was computed.

        Args:
            wall: Seconds of the whole loop over the shards.
        """
        if not self.images:
            return {}
        rates = {"images_per_second": round(self.images / wall, 4)} if wall else {}
        return {"images": self.images, **rates, "processor_seconds": round(self.processor, 2), **self.passes}


@dataclass(frozen=True)
class Ending:
    """What was made of a job when its records were there.

    Attributes:
        files: {kind: paths, relative to the run folder}, see `records.artefacts`.
        axes: Of the curves.
        turned: Sentences on images with an EXIF orientation.
        seconds: Of each stage.
        notes: Sentences that a worker has collected.
    """

    files: Mapping[str, tuple[str, ...]]
    axes: Mapping[str, Any]
    turned: tuple[str, ...]
    seconds: Mapping[str, float]
    notes: Notes


@dataclass(frozen=True)
class JobResult:
    """A job that has ended.

    Attributes:
        job: Its name.
        settings: Its settings, with the target that the data decided; None if they couldn't be resolved.
        facts: Its share of the manifest.
        images: How many images are explained.
        left_out: The ids of those that data.only_correct leaves out.
        shards: {key: number of images} of all shards.
        values: {method: {metric: key}}, to be taken from the records.
        lines: Sentences for the end of the command.
        computed: What this command computed.
        wall: Seconds of the whole loop over the shards.
        seconds: Of each part and stage.
        files: {kind: paths, relative to the run folder}.
        axes: Of the curves.
        failure: Why it ended early.
    """

    job: str
    settings: Settings | None = None
    facts: Facts = field(default_factory=Facts)
    images: int = 0
    left_out: tuple[str, ...] = ()
    shards: Mapping[str, int] = field(default_factory=dict)
    values: Values = field(default_factory=dict)
    lines: tuple[str, ...] = ()
    computed: ShardResult = field(default_factory=ShardResult)
    wall: float = 0.0
    seconds: Mapping[str, float] = field(default_factory=dict)
    files: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    axes: Mapping[str, Any] = field(default_factory=dict)
    failure: Failure | None = None

    @staticmethod
    def begun(prepared: PreparedJob, settings: Settings) -> JobResult:
        """Return the result of a prepared job of which nothing is computed."""
        return JobResult(
            prepared.job,
            settings=settings,
            facts=prepared.facts,
            images=prepared.images,
            left_out=prepared.left_out,
            shards=prepared.shards,
            values=prepared.values,
            lines=prepared.lines,
            seconds=prepared.seconds,
        )

    @property
    def config(self) -> dict[str, Any]:
        """The settings as the manifest has them; empty for a job whose settings couldn't be resolved."""
        return {} if self.settings is None else self.settings.model_dump()

    def work(self) -> dict[str, float]:
        """Return the job's entry in the manifest's "work"; empty if nothing was computed."""
        return self.computed.work(self.wall)


def sums(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sums of the numbers of both, by name."""
    return {name: first.get(name, 0) + second.get(name, 0) for name in {**first, **second}}
