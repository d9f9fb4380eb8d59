"""What a worker tells the user beside its values, once: warnings, images that can't be read, damaged files."""

from __future__ import annotations

import logging
import warnings
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from axiom_bench.evaluation.batch import MethodLeftOut, ZeroMaps
from axiom_bench.evaluation.method_costs import MethodNotTimed
from axiom_bench.records import artefacts
from axiom_bench.records.files import DamagedFile
from axiom_bench.run.inputs.images import SUFFIX

CACHE = "data.cache"
LEFT_OUT, DAMAGED = "methods, and layers without gradients", "damaged files"
BAD_IMAGES, PROBLEMS = "images can't be read", "images have annotations that can't be used"
MACHINE = "memory that ran out, and processes that died"
LOGS = {"axiom_bench.data": PROBLEMS, "axiom_bench.bad_images": BAD_IMAGES, "axiom_bench.machine": MACHINE}
TURNED = "images are turned upright, as their EXIF orientation says"
AS_STORED = "images aren't turned as their EXIF orientation says: annotations are in stored pixels"

Notes = Mapping[str, Mapping[str, None]]  # {kind: {message: None}}, each once; of damaged files their paths


def joined(*several: Notes) -> Notes:
    """Those of several workers."""
    kinds = dict.fromkeys(kind for notes in several for kind in notes)
    return {kind: {text: None for notes in several for text in notes.get(kind, ())} for kind in kinds}


def lines(notes: Notes) -> tuple[str, ...]:
    """Each sentence once; of bad images and the annotations' problems the count and the first; one of all damaged
    files."""
    counts = [line for kind in (BAD_IMAGES, PROBLEMS) for line in counted(kind, notes.get(kind, ()))]
    damaged = [damaged_line(notes[DAMAGED])] if notes.get(DAMAGED) else []
    return (*notes.get(LEFT_OUT, ()), *counts, *damaged, *notes.get(MACHINE, ()))


def of_orientations(turned: Mapping[str, bool]) -> list[str]:
    """The count and the first of the images with an EXIF orientation, by what was done with it. turned: {id: whether it
    was applied}."""
    kinds = ((TURNED, True), (AS_STORED, False))
    return [line for what, kind in kinds for line in counted(what, [name for name in turned if turned[name] == kind])]


def counted(what: str, images: Collection[str]) -> list[str]:
    """How many there are, and the first; nothing for none."""
    return [f"{len(images)} {what}, the first: {next(iter(images))}"] if images else []


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
    notes: dict[str, dict[str, None]] = {kind: {} for kind in (LEFT_OUT, *LOGS.values(), DAMAGED)}
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
            if issubclass(warning.category, (MethodLeftOut, ZeroMaps)):
                notes[LEFT_OUT][str(warning.message)] = None
            elif issubclass(warning.category, DamagedFile):
                notes[DAMAGED][str(warning.message)] = None
            elif not issubclass(warning.category, MethodNotTimed):  # that method has a note as left out
                warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)


class _Handler(logging.Handler):
    def __init__(self, messages: dict[str, None]) -> None:
        super().__init__(logging.WARNING)
        self.messages = messages

    def emit(self, record: logging.LogRecord) -> None:
        self.messages[record.getMessage()] = None
