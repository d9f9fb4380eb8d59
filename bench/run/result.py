"""A job as far as it has come, and why one ended early: what a worker hands back, to travel between processes."""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from omegaconf.errors import OmegaConfBaseException

from axiom_bench.errors import BenchError, is_out_of_memory
from axiom_bench.records.record_files import Values
from axiom_bench.run.notes import Notes, joined


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
class Result:
    """job: its name. config: resolved. facts: its share of the manifest. images: how many are explained; left_out: ids
    of those that data.only_correct leaves out. shards: {key: number of images} of all; missing: keys of those that lack
    values. cost: of these, a sentence. damaged: files. in_store: {key of a missing shard: its excerpt of data in a
    store}. lines, notes: for the user.

    What this command computed: shards and images, record files, and passes of the model that were counted. seconds: of
    each part (see `evaluation.stopwatch`) and stage. wall, processor: seconds of the whole loop over the shards.

    values: {method: {metric: key}}, to be taken from the records. files: {kind: paths, relative to the run folder}, see
    `records.artefacts`. axes: of the curves. failure: why it ended early."""

    job: str
    config: dict[str, Any] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    images: int = 0
    left_out: tuple[str, ...] = ()
    shards: Mapping[str, int] = field(default_factory=dict)
    missing: Sequence[str] = ()
    cost: str | None = None
    damaged: Sequence[str] = ()
    in_store: Mapping[str, Any] = field(default_factory=dict)
    lines: tuple[str, ...] = ()
    notes: Notes = field(default_factory=dict)
    shards_computed: int = 0
    images_computed: int = 0
    written: tuple[str, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    wall: float = 0.0
    processor: float = 0.0
    passes: Mapping[str, int] = field(default_factory=dict)
    values: Values = field(default_factory=dict)
    files: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    axes: Mapping[str, Any] = field(default_factory=dict)
    failure: Failure | None = None

    def __add__(self, part: Result) -> Result:
        """With what a part of the job computed beside it."""
        return replace(
            self,
            notes=joined(self.notes, part.notes),
            shards_computed=self.shards_computed + part.shards_computed,
            images_computed=self.images_computed + part.images_computed,
            written=self.written + part.written,
            seconds=_sums(self.seconds, part.seconds),
            processor=self.processor + part.processor,
            passes=_sums(self.passes, part.passes),
        )

    def work(self) -> dict[str, float]:
        """The job's entry in the manifest's "work"; {} where nothing was computed. processor_seconds: of the loop, in
        all processes. Passes are counted in images, with the rows that pad a batch."""
        if not self.images_computed:
            return {}
        rates = {"images_per_second": round(self.images_computed / self.wall, 4)} if self.wall else {}
        processor = {"processor_seconds": round(self.processor, 2)}
        return {"images": self.images_computed, **rates, **processor, **self.passes}


def _sums(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    return {name: first.get(name, 0) + second.get(name, 0) for name in {**first, **second}}
