"""What a task tells the user beside its values, once: warnings, images that can't be read, damaged files."""

from __future__ import annotations

import logging
import warnings
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path

from axiom_bench.data.loading import orientations
from axiom_bench.evaluation.batch import MethodLeftOut, ZeroMaps
from axiom_bench.evaluation.method_costs import MethodNotTimed
from axiom_bench.records import artefacts
from axiom_bench.records.files import DamagedFile
from axiom_bench.run.inputs.images import SUFFIX

CACHE = "data.cache"
DATA = logging.getLogger("axiom_bench.data")
BAD_IMAGES = logging.getLogger("axiom_bench.bad_images")
MACHINE = logging.getLogger("axiom_bench.machine")


@dataclass
class Notes:
    """Messages, each once. left_out: about methods, and layers without gradients. bad_images and problems: about
    images that can't be read, and annotations, one for each image. turned, as_stored: the images with an EXIF
    orientation, by whether it is applied. machine: about memory that ran out and processes that died. damaged: paths of
    files."""

    left_out: dict[str, None] = field(default_factory=dict)
    bad_images: dict[str, None] = field(default_factory=dict)
    problems: dict[str, None] = field(default_factory=dict)
    turned: dict[str, None] = field(default_factory=dict)
    as_stored: dict[str, None] = field(default_factory=dict)
    machine: dict[str, None] = field(default_factory=dict)
    damaged: dict[str, None] = field(default_factory=dict)

    def __add__(self, other: Notes) -> Notes:
        """Those of two tasks."""
        return Notes(*(getattr(self, each.name) | getattr(other, each.name) for each in fields(self)))

    def lines(self) -> tuple[str, ...]:
        """Each sentence once; of bad images and the annotations' problems the count and the first; one of all damaged
        files."""
        counts = {
            "images can't be read": self.bad_images,
            "images have annotations that can't be used": self.problems,
        }
        damaged = [damaged_line(self.damaged)] if self.damaged else []
        return (*self.left_out, *_counted(counts), *self.of_orientations(), *damaged, *self.machine)

    def of_orientations(self) -> list[str]:
        """The count and the first of the images with an EXIF orientation, by what was done with it."""
        return _counted({
            "images are turned upright, as their EXIF orientation says": self.turned,
            "images aren't turned as their EXIF orientation says: annotations are in stored pixels": self.as_stored,
        })  # fmt: skip


def _counted(images: Mapping[str, Mapping[str, None]]) -> list[str]:
    return [f"{len(ids)} {what}, the first: {next(iter(ids))}" for what, ids in images.items() if ids]


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
    notes = Notes()
    handlers = {DATA: _Handler(notes.problems), BAD_IMAGES: _Handler(notes.bad_images)}
    handlers |= {orientations[True]: _Handler(notes.turned), orientations[False]: _Handler(notes.as_stored)}
    handlers[MACHINE] = _Handler(notes.machine)
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
                notes.left_out[str(warning.message)] = None
            elif issubclass(warning.category, DamagedFile):
                notes.damaged[str(warning.message)] = None
            elif not issubclass(warning.category, MethodNotTimed):  # that method has a note as left out
                warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)


class _Handler(logging.Handler):
    def __init__(self, messages: dict[str, None]) -> None:
        super().__init__(logging.WARNING)
        self.messages = messages

    def emit(self, record: logging.LogRecord) -> None:
        self.messages[record.getMessage()] = None
