"""A job as far as it has come, why one ended early, and what a worker tells the user beside its values, each sentence
once: warnings, images that can't be read, damaged files. All of it travels between processes."""

from __future__ import annotations

import logging
import traceback
import warnings
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from omegaconf.errors import OmegaConfBaseException

from axiom_bench.cutting.dependence import BatchMates
from axiom_bench.data.base import BEYOND, NO_AREA, OTHER_CLASS, OUTSIDE, SHARES
from axiom_bench.data.formats.decoding import DARK, NEARLY_BLACK
from axiom_bench.errors import BenchError, is_out_of_memory
from axiom_bench.evaluation.batch import MethodLeftOut, NotFiniteMaps, ZeroMaps
from axiom_bench.evaluation.runtime import MethodNotTimed
from axiom_bench.examination.examine import Answer
from axiom_bench.records import artefacts
from axiom_bench.records.files import DamagedFile
from axiom_bench.records.record_files import Values
from axiom_bench.run.images import SUFFIX

CACHE = "data.cache"
LEFT_OUT, DAMAGED = "methods, and layers without gradients", "damaged files"
OF_FIRST = "maps of the first batch that aren't finite"  # told before anything is computed
BAD_IMAGES = "images can't be read"
PROBLEMS = "images have an annotation that is missing or can't be read"
ENDINGS = {  # of sentences on boxes and pictures: the line of all that have one
    NEARLY_BLACK: f"pictures are nearly black: no value above {DARK} of 255. They are used as the file's type says; "
    "if their numbers have another range (12 bits in a file of 16, or 0 and 1), save them over the whole range",
    OTHER_CLASS: "boxes are left out, since their class isn't one of data.classes; to use them, add it there, in the "
    "order of the network's outputs",
    NO_AREA: "boxes are left out, since they have no area",
    OUTSIDE: "boxes are left out, since they lie outside their image",
    SHARES: "boxes are left out, since they are in shares of the image, not in pixels",
    BEYOND: "boxes reach more than a pixel beyond their image, and are cut off at its edge",
}
MACHINE = "memory that ran out, processes that died, and kernels that add in any order"
ANY_ORDER = " does not have a deterministic implementation"  # how torch warns, behind the kernel's name
LOGS = {"axiom_bench.data": PROBLEMS, "axiom_bench.bad_images": BAD_IMAGES, "axiom_bench.machine": MACHINE}
TURNED = "images are turned upright, as their EXIF orientation says"
AS_STORED = "images aren't turned as their EXIF orientation says: annotations are in stored pixels"

Notes = Mapping[str, Mapping[str, None]]  # {kind: {message: None}}, each once; of damaged files their paths


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
    values. cost: a sentence if their ablation drops are costly. damaged: files. lines, notes: for the user.

    What this command computed: shards and images, record files, and passes of the model that were counted. seconds: of
    each part (see `evaluation.stopwatch`) and stage. wall, processor: seconds of the whole loop over the shards.

    values: {method: {metric: key}}, to be taken from the records. files: {kind: paths, relative to the run folder}, see
    `records.artefacts`. axes: of the curves. answers: of the examination. failure: why it ended early."""

    job: str
    config: dict[str, Any] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    images: int = 0
    left_out: tuple[str, ...] = ()
    shards: Mapping[str, int] = field(default_factory=dict)
    missing: Sequence[str] = ()
    cost: str | None = None
    damaged: Sequence[str] = ()
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
    answers: tuple[Answer, ...] = ()
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


def joined(*several: Notes) -> Notes:
    """Those of several workers."""
    kinds = dict.fromkeys(kind for notes in several for kind in notes)
    return {kind: {text: None for notes in several for text in notes.get(kind, ())} for kind in kinds}


def note_lines(notes: Notes) -> tuple[str, ...]:
    """Each sentence once; of bad images, the annotations' problems and boxes the count and the first; one line of all
    damaged files."""
    counts = counted(BAD_IMAGES, notes.get(BAD_IMAGES, ()))
    problems = notes.get(PROBLEMS, ())
    counts += counted(PROBLEMS, [problem for problem in problems if not problem.endswith(tuple(ENDINGS))])
    for ending, what in ENDINGS.items():
        sentences = [problem for problem in problems if problem.endswith(ending)]
        images = {problem.partition(": ")[0] for problem in sentences}
        counts += [f"{len(sentences)} {what} (in {len(images)} images), the first: {sentences[0]}"] if sentences else []
    damaged = [damaged_line(notes[DAMAGED])] if notes.get(DAMAGED) else []
    return (*notes.get(LEFT_OUT, ()), *counts, *damaged, *notes.get(MACHINE, ()))


def orientation_lines(turned: Mapping[str, bool]) -> list[str]:
    """The count and the first of the images with an EXIF orientation, by what was done with it. turned: {id: whether it
    was applied}."""
    kinds = ((TURNED, True), (AS_STORED, False))
    return [line for what, kind in kinds for line in counted(what, [name for name in turned if turned[name] == kind])]


def counted(what: str, images: Collection[str]) -> list[str]:
    """How many there are, each image once, and the first message, which begins with its image; nothing for none."""
    count = len({image.partition(": ")[0] for image in images})
    return [f"{count} {what}, the first: {next(iter(images))}"] if images else []


def damaged_line(paths: Collection[str]) -> str:
    """How many files of a run folder were damaged, and of which kinds.

    >>> damaged_line(["run/records/a.parquet", "run/records/b.parquet", "run/image_hashes.json"])
    '3 damaged files are written anew: 2 in records, image_hashes.json'
    """
    folders = {artefact.place for artefact in artefacts.TABLE if artefact.suffixes}
    kinds: Counter[str] = Counter()
    for path in map(Path, paths):
        of_folder = path.parent.name if path.parent.name in folders else path.name
        kinds[CACHE if path.suffix == SUFFIX else of_folder] += 1
    parts = [kind if "." in kind and kind != CACHE else f"{count} in {kind}" for kind, count in kinds.items()]
    return f"{len(paths)} damaged file{'s are' if len(paths) > 1 else ' is'} written anew: {', '.join(parts)}"


@contextmanager
def collected() -> Iterator[Notes]:
    """Collects the notes of the code inside; other warnings are issued again when it ends."""
    notes: dict[str, dict[str, None]] = {kind: {} for kind in (LEFT_OUT, OF_FIRST, *LOGS.values(), DAMAGED)}
    handlers = {logging.getLogger(name): _Handler(notes[kind]) for name, kind in LOGS.items()}
    propagated = {log: log.propagate for log in handlers}
    for log, handler in handlers.items():
        log.addHandler(handler)
        log.propagate = False
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            yield notes
    finally:
        for log, handler in handlers.items():
            log.removeHandler(handler)
            log.propagate = propagated[log]
        for warning in caught:
            kernel, adds_in_any_order, _ = str(warning.message).partition(ANY_ORDER)
            if adds_in_any_order:
                sentence = (
                    f"{kernel} adds in any order on this GPU: the last digits of values may change from run to run."
                )
                notes[MACHINE][sentence] = None
            elif issubclass(warning.category, NotFiniteMaps):
                notes[OF_FIRST][str(warning.message)] = None
            elif issubclass(warning.category, (MethodLeftOut, ZeroMaps)):
                notes[LEFT_OUT][str(warning.message)] = None
            elif issubclass(warning.category, DamagedFile):
                notes[DAMAGED][str(warning.message)] = None
            elif not issubclass(
                warning.category, (MethodNotTimed, BatchMates)
            ):  # which others say: as left out, answers
                warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)


class _Handler(logging.Handler):
    def __init__(self, messages: dict[str, None]) -> None:
        super().__init__(logging.WARNING)
        self.messages = messages

    def emit(self, record: logging.LogRecord) -> None:
        self.messages[record.getMessage()] = None
