"""The lines that a run prints of its notes: each sentence once, images counted, damaged files in one line."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from axiom_bench.data.base import BEYOND, NO_AREA, OTHER_CLASS, OUTSIDE, SHARES
from axiom_bench.data.formats.decoding import DARK, NEARLY_BLACK
from axiom_bench.notes import (
    DamagedFile,
    ImageNotRead,
    ImageProblem,
    MachineNote,
    MethodLeftOut,
    MetricsLeftOut,
    Notes,
    ZeroMaps,
)
from axiom_bench.records import artefacts
from axiom_bench.run.images import SUFFIX

CACHE = "data.cache"
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
ANY_ORDER = " does not have a deterministic implementation"  # how torch warns, behind the kernel's name
TURNED = "images are turned upright, as their EXIF orientation says"
AS_STORED = "images aren't turned as their EXIF orientation says: annotations are in stored pixels"


def note_lines(notes: Notes) -> tuple[str, ...]:
    """Return the lines of the notes that are printed at the end of a job.

    Of images that can't be read, and of each problem of annotations and boxes, a line has the count and the first. One
    line has all damaged files. Notes that are printed before, or that an answer of the examination repeats, have none.
    """
    left_out = notes.sentences(MethodLeftOut, MetricsLeftOut, ZeroMaps)
    counts = counted(BAD_IMAGES, notes.sentences(ImageNotRead))
    problems = notes.sentences(ImageProblem)
    counts += counted(PROBLEMS, [problem for problem in problems if not problem.endswith(tuple(ENDINGS))])
    for ending, what in ENDINGS.items():
        sentences = [problem for problem in problems if problem.endswith(ending)]
        images = {problem.partition(": ")[0] for problem in sentences}
        counts += [f"{len(sentences)} {what} (in {len(images)} images), the first: {sentences[0]}"] if sentences else []
    damaged_files = notes.sentences(DamagedFile)
    damaged = [damaged_line(damaged_files)] if damaged_files else []
    return (*left_out, *counts, *damaged, *notes.sentences(MachineNote))


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
def kernel_notes() -> Iterator[Notes]:
    """Collect a note for each kernel that adds in any order, of which torch warns; other warnings are issued again.

    Torch has no other way to tell it. The notes are there when the block ends.
    """
    notes = Notes()
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            yield notes
    finally:
        for warning in caught:
            kernel, adds_in_any_order, _ = str(warning.message).partition(ANY_ORDER)
            if adds_in_any_order:
                sentence = (
                    f"{kernel} adds in any order on this GPU: the last digits of values may change from run to run."
                )
                notes.add(MachineNote(sentence))
            else:
                warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
