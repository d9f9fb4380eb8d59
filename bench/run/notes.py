"""What a worker tells the user beside its values, each sentence once: warnings, images that can't be read, damaged
files. Notes travel between processes."""

from __future__ import annotations

import logging
import warnings
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from axiom_bench.cutting.dependence import BatchMates
from axiom_bench.data.base import BEYOND, NO_AREA, OTHER_CLASS, OUTSIDE, SHARES
from axiom_bench.data.formats.decoding import DARK, NEARLY_BLACK
from axiom_bench.evaluation.batch import MethodLeftOut, NotFiniteMaps, ZeroMaps
from axiom_bench.evaluation.runtime import MethodNotTimed
from axiom_bench.records import artefacts
from axiom_bench.records.files import DamagedFile
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
