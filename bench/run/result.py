"""The results of a job at each stage: prepared, computed in shards, finished, or failed.

Workers in other processes return them, so every result can be pickled. The manifest and the lines
that a command prints are made of them.
"""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from omegaconf.errors import OmegaConfBaseException

from axiom_bench.errors import BenchError, is_out_of_memory
from axiom_bench.examination.examine import Answer
from axiom_bench.notes import Notes
from axiom_bench.records.entries import Facts
from axiom_bench.records.record_files import Values
from axiom_bench.run.composing.settings import Settings

Number = TypeVar("Number", int, float)


class Failure(Exception):
    """The reason why a job ended early. It can always be pickled, which a plug-in's own error may
    not be.

    Attributes:
        message: The sentences for the user.
        is_users_to_fix: True if the user can fix it.
        trace: The traceback, for a bug report.
        is_tainted: True if a plug-in changed data that other plug-ins read, so that values computed
            in the same process can't be kept.
    """

    def __init__(
        self, message: str, is_users_to_fix: bool = True, trace: str = "", is_tainted: bool = False
    ) -> None:
        # pickle calls the constructor with these arguments
        super().__init__(message, is_users_to_fix, trace, is_tainted)
        self.message = message
        self.is_users_to_fix = is_users_to_fix
        self.trace = trace
        self.is_tainted = is_tainted

    @staticmethod
    def of(error: BaseException) -> Failure:
        """Return the failure that reports an error to the user."""
        if isinstance(error, Failure):
            return error
        is_tainted = getattr(error, "is_tainted", False)
        first_line = str(error).strip().partition("\n")[0]
        if isinstance(error, BenchError):
            return Failure(str(error), is_tainted=is_tainted)
        if isinstance(error, OmegaConfBaseException):
            return Failure(first_line)
        # outside of a forward pass, which would be repeated with half of the rows
        if is_out_of_memory(error):
            return Failure(f"Out of memory ({first_line}); free some, or use another machine.")
        # they name the plug-in that raised the error, which the user can fix
        notes = getattr(error, "__notes__", [])
        return Failure(
            ", ".join([f"{type(error).__name__}: {error}", *notes]),
            is_users_to_fix=bool(notes),
            trace="".join(traceback.format_exception(error)),
            is_tainted=is_tainted,
        )


@dataclass(frozen=True)
class PreparedJob:
    """A job that is loaded and checked, before its shards are computed."""

    job: str
    """The name of the job."""
    target: str
    """The rule that names the class to explain. The data decide it if none is set."""
    facts: Facts
    """The job's share of the manifest."""
    images: int
    """The number of images, objects or words to explain."""
    noun: str
    """What these are: "image", "object" or "word"."""
    left_out: tuple[str, ...]
    """The ids of the images that data.only_correct leaves out."""
    shards: Mapping[str, int]
    """{key: number of images} of all shards."""
    missing: Sequence[str]
    """The keys of the shards that lack values."""
    costs: tuple[str, ...]
    """Sentences if the ablation drops or the methods of the missing shards are costly."""
    damaged: Sequence[str]
    """The names of damaged record files."""
    lines: tuple[str, ...]
    """Sentences that are printed at the end of the command."""
    notes: Notes
    """Sentences that the worker has collected."""
    seconds: Mapping[str, float]
    """{stage: seconds}."""
    values: Values
    """{method: {metric: key}} of the values that the report takes from the records."""
    answers: tuple[Answer, ...]
    """The answers of the examination."""


@dataclass(frozen=True)
class ShardResult:
    """The result of computing one or several shards of a job."""

    shards: int = 0
    """The number of shards that were computed."""
    images: int = 0
    """The number of images in these shards."""
    written: tuple[str, ...] = ()
    """The names of the record files."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """{part of the evaluation: seconds}, see `evaluation.stopwatch`."""
    processor: float = 0.0
    """The processor time of all threads, in seconds."""
    passes: Mapping[str, int] = field(default_factory=dict)
    """The passes of the model, counted in images. The rows that pad a batch count, too."""
    notes: Notes = field(default_factory=Notes)
    """Sentences that the workers have collected."""

    def __add__(self, other: ShardResult) -> ShardResult:
        """Return the result of computing the shards of both."""
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
        """Return the job's entry in the manifest's "work", or {} if nothing was computed.

        Args:
            wall: The seconds that the whole loop over the shards took.
        """
        if not self.images:
            return {}
        work: dict[str, float] = {"images": self.images}
        if wall:
            work["images_per_second"] = round(self.images / wall, 4)
        work["processor_seconds"] = round(self.processor, 2)
        work.update(self.passes)
        return work


@dataclass(frozen=True)
class Ending:
    """The result of the last task of a job, which runs once all its records exist."""

    files: Mapping[str, tuple[str, ...]]
    """{kind: paths relative to the run folder}, see `records.artefacts`."""
    axes: Mapping[str, object]
    """{curve: how to draw it}."""
    orientation_notes: tuple[str, ...]
    """Sentences about images with an EXIF orientation."""
    seconds: Mapping[str, float]
    """{stage: seconds}."""
    notes: Notes
    """Sentences that the worker has collected."""


@dataclass(frozen=True)
class JobResult:
    """The result of a job that has ended, or of one that has begun so far."""

    job: str
    """The name of the job."""
    settings: Settings | None = None
    """The job's settings, with the target that the data decided; None if they couldn't be resolved.
    """
    facts: Facts = field(default_factory=Facts)
    """The job's share of the manifest."""
    images: int = 0
    """The number of images to explain."""
    left_out: tuple[str, ...] = ()
    """The ids of the images that data.only_correct leaves out."""
    shards: Mapping[str, int] = field(default_factory=dict)
    """{key: number of images} of all shards."""
    values: Values = field(default_factory=dict)
    """{method: {metric: key}} of the values that the report takes from the records."""
    lines: tuple[str, ...] = ()
    """Sentences that change the meaning of the values. All are printed at the end of the command.
    """
    notes: tuple[str, ...] = ()
    """Other sentences. The command prints the first of them, and the report has all."""
    computed: ShardResult = field(default_factory=ShardResult)
    """The shards that this command computed."""
    wall: float = 0.0
    """The seconds that the whole loop over the shards took."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """{part or stage: seconds}."""
    files: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """{kind: paths relative to the run folder}."""
    axes: Mapping[str, object] = field(default_factory=dict)
    """{curve: how to draw it}."""
    failure: Failure | None = None
    """The reason why the job ended early; None if it succeeded."""

    @staticmethod
    def begun(prepared: PreparedJob, settings: Settings) -> JobResult:
        """Return the result of a prepared job, of which nothing is computed yet."""
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
    def config(self) -> dict[str, object]:
        """The settings as the manifest stores them; {} if they couldn't be resolved."""
        return {} if self.settings is None else self.settings.model_dump()

    def work(self) -> dict[str, float]:
        """Return the job's entry in the manifest's "work", or {} if nothing was computed."""
        return self.computed.work(self.wall)


def sums(first: Mapping[str, Number], second: Mapping[str, Number]) -> dict[str, Number]:
    """Add the numbers of both mappings per name. A name that a mapping lacks counts as 0."""
    return {name: first.get(name, 0) + second.get(name, 0) for name in {**first, **second}}
