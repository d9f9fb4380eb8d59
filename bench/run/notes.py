"""Warnings about a job's methods, annotations and machine, collected while it runs and listed at its end."""

from __future__ import annotations

import logging
import warnings
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rich import get_console
from rich.console import Console

from axiom_bench.evaluation.batch import MethodLeftOut
from axiom_bench.evaluation.method_costs import MethodNotTimed
from axiom_bench.records import artefacts
from axiom_bench.records.files import DamagedFile
from axiom_bench.run.inputs import image_cache

CACHE = "data.cache"
DATA = logging.getLogger("axiom_bench.data")
BAD_IMAGES = logging.getLogger("axiom_bench.bad_images")
MACHINE = logging.getLogger("axiom_bench.machine")


@dataclass
class Notes:
    """left_out: sentences about methods. bad_images and problems: about images that can't be read, and annotations, one
    for each image. machine: about memory that ran out and processes that died, which are printed at once too. damaged:
    paths of files."""

    left_out: dict[str, None] = field(default_factory=dict)
    bad_images: dict[str, None] = field(default_factory=dict)
    problems: dict[str, None] = field(default_factory=dict)
    machine: dict[str, None] = field(default_factory=dict)
    damaged: dict[str, None] = field(default_factory=dict)

    def lines(self) -> tuple[str, ...]:
        """Each sentence once; of bad images and the annotations' problems the count and the first; one of all damaged
        files."""
        counts = (
            ("images can't be read", self.bad_images),
            ("images have annotations that can't be used", self.problems),
        )
        counted = [f"{len(notes)} {what}, the first: {next(iter(notes))}" for what, notes in counts if notes]
        damaged = [damaged_line(self.damaged)] if self.damaged else []
        return (*self.left_out, *counted, *damaged, *self.machine)


def damaged_line(paths: Collection[str]) -> str:
    """How many files of a run folder were damaged, and of which kinds.

    >>> damaged_line(["run/records/a.parquet", "run/records/b.parquet", "run/image_hashes.json"])
    '3 damaged files are written anew: 2 in records, image_hashes.json'
    """
    kinds = Counter(_kind(Path(path)) for path in paths)
    parts = [kind if "." in kind and kind != CACHE else f"{count} in {kind}" for kind, count in kinds.items()]
    return f"{len(paths)} damaged file{'s are' if len(paths) > 1 else ' is'} written anew: {', '.join(parts)}"


def _kind(path: Path) -> str:
    """The folder of a run folder that a file is in; its own name where it lies directly in it. Of images, the cache."""
    if path.suffix == image_cache.SUFFIX:
        return CACHE
    folders = {artefact.place for artefact in artefacts.TABLE if artefact.suffixes}
    return path.parent.name if path.parent.name in folders else path.name


@contextmanager
def collected() -> Iterator[Notes]:
    """Collects the notes of the code inside; other warnings are issued again when it ends."""
    notes = Notes()
    try:
        with (
            _handled(DATA, notes.problems),
            _handled(BAD_IMAGES, notes.bad_images),
            _handled(MACHINE, notes.machine, get_console()),
            warnings.catch_warnings(record=True) as caught,
        ):
            warnings.simplefilter("always", UserWarning)
            yield notes
    finally:
        for warning in caught:
            if issubclass(warning.category, MethodLeftOut):
                notes.left_out[str(warning.message)] = None
            elif issubclass(warning.category, DamagedFile):
                notes.damaged[str(warning.message)] = None
            elif not issubclass(warning.category, MethodNotTimed):  # that method has a note as left out
                warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)


@contextmanager
def _handled(log: logging.Logger, messages: dict[str, None], console: Console | None = None) -> Iterator[None]:
    """Keeps what is logged inside, and prints it where there is a console, instead of what logging would do."""
    handler = _Handler(messages, console)
    log.addHandler(handler)
    propagate, log.propagate = log.propagate, False
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.propagate = propagate


class _Handler(logging.Handler):
    """Keeps messages."""

    def __init__(self, messages: dict[str, None], console: Console | None) -> None:
        super().__init__(logging.WARNING)
        self.messages, self.console = messages, console

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        is_new = message not in self.messages
        self.messages[message] = None
        if self.console is not None and is_new:
            self.console.print(message, highlight=False, soft_wrap=True, markup=False)
