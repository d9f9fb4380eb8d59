"""Turn the notes of a job into the lines that a run prints at its end.

The code that computes adds a note for each image and file; a user wants one line for each problem.
Each sentence is printed once. Images with the same problem are counted, and all damaged files share
one line.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from axiom_bench.data.base import BEYOND, NO_AREA, OTHER_CLASS, OUTSIDE, SHARES
from axiom_bench.data.formats.decoding import DARK, NEARLY_BLACK
from axiom_bench.errors import plural, verb
from axiom_bench.notes import (
    DamagedFile,
    HooksLeft,
    ImageNotRead,
    ImageProblem,
    LowPrecision,
    MachineNote,
    MethodLeftOut,
    MetricsLeftOut,
    Notes,
    ZeroMaps,
)
from axiom_bench.records import artefacts
from axiom_bench.run.images import SUFFIX

CACHE = "data.cache"
# Problems of images: the text after a count of 1, and after other counts.
BAD_IMAGES = ("image can't be read", "images can't be read")
PROBLEMS = (
    "image lacks an annotation, so metrics that need it have no value there",
    "images lack an annotation, so metrics that need it have no value there",
)
# a mask may be unusable next to boxes that are used
MASKS = (
    "mask can't be used, so metrics of masks have no value there; boxes aren't affected",
    "masks can't be used, so metrics of masks have no value there; boxes aren't affected",
)
# {ending of the sentences about a problem of boxes or pictures: the text after a count of 1, and
# after other counts}
ENDINGS = {
    NEARLY_BLACK: (
        f"picture is nearly black: no value above {DARK} of 255. It is used as the file's type "
        "says; if its numbers have another range (12 bits in a file of 16, or 0 and 1), save it "
        "over the whole range",
        f"pictures are nearly black: no value above {DARK} of 255. They are used as the file's "
        "type says; if their numbers have another range (12 bits in a file of 16, or 0 and 1), "
        "save them over the whole range",
    ),
    OTHER_CLASS: (
        "box is left out, since its class isn't one of data.classes; if the network has an output "
        "of this class, add the class to data.classes, in the order of the outputs",
        "boxes are left out, since their class isn't one of data.classes; if the network has an "
        "output of this class, add the class to data.classes, in the order of the outputs",
    ),
    NO_AREA: (
        "box is left out, since it has no area",
        "boxes are left out, since they have no area",
    ),
    OUTSIDE: (
        "box is left out, since it lies outside its image",
        "boxes are left out, since they lie outside their image",
    ),
    SHARES: (
        "box is left out, since it is in shares of the image, not in pixels",
        "boxes are left out, since they are in shares of the image, not in pixels",
    ),
    BEYOND: (
        "box reaches more than a pixel beyond its image, and is cut off at its edge",
        "boxes reach more than a pixel beyond their image, and are cut off at its edge",
    ),
}
# torch's warning, after the kernel's name
ANY_ORDER = " does not have a deterministic implementation"
TURNED = (
    "image is turned upright, as its EXIF orientation says",
    "images are turned upright, as their EXIF orientation says",
)
AS_STORED = (
    "image isn't turned as its EXIF orientation says: annotations are in stored pixels",
    "images aren't turned as their EXIF orientation says: annotations are in stored pixels",
)


def warning_lines(notes: Notes) -> tuple[str, ...]:
    """Return the lines that a run always prints: those about what changes the meaning of a job's
    numbers, and those about damaged files.

    They are about half precision, maps that are zero, images that can't be read, and problems of
    annotations, boxes and pictures. One line counts the images of a problem and quotes the first
    sentence. Notes that are printed earlier, or that an answer of the examination repeats, have no
    line.
    """
    counts = counted(BAD_IMAGES, notes.sentences(ImageNotRead))
    problems = notes.sentences(ImageProblem)
    endings = tuple(ENDINGS)
    masks = [problem for problem in problems if ": the mask " in problem]
    counts += counted(MASKS, masks)
    others = [problem for problem in problems if not problem.endswith(endings)]
    counts += counted(PROBLEMS, [problem for problem in others if problem not in masks])
    for ending, problem_text in ENDINGS.items():
        sentences = [problem for problem in problems if problem.endswith(ending)]
        images = {problem.partition(": ")[0] for problem in sentences}
        if sentences:
            text = verb(len(sentences), *problem_text)
            counts.append(
                f"{len(sentences)} {text} (in {plural(len(images), 'image')}), the first: "
                f"{sentences[0]}"
            )
    damaged_files = notes.sentences(DamagedFile)
    damaged = [damaged_line(damaged_files)] if damaged_files else []
    return (*notes.sentences(LowPrecision, ZeroMaps), *counts, *damaged)


def note_lines(notes: Notes) -> tuple[str, ...]:
    """Return the other lines about a job: methods and metrics that are left out, hooks that methods
    leave, and the machine. A run prints the first of them, and its report has all.
    """
    left_out = notes.sentences(MethodLeftOut, MetricsLeftOut)
    return (*left_out, *notes.sentences(HooksLeft, MachineNote))


def orientation_lines(turned: Mapping[str, bool]) -> list[str]:
    """Return a line that counts the images turned upright, and one that counts the images left as
    stored.

    Each line quotes the first image, and is left out if there is none.

    Args:
        turned: {id of an image with an EXIF orientation: whether the orientation was applied}.
    """
    upright = [image for image, is_applied in turned.items() if is_applied]
    as_stored = [image for image, is_applied in turned.items() if not is_applied]
    return counted(TURNED, upright) + counted(AS_STORED, as_stored)


def counted(problem: tuple[str, str], messages: Collection[str]) -> list[str]:
    """Return a line that counts images and quotes the first message, or [] if there is no message.

    Args:
        problem: The text after a count of 1, and after other counts.
        messages: The messages, which begin with the id of their image. An image with several
            messages counts once.
    """
    if not messages:
        return []
    count = len({message.partition(": ")[0] for message in messages})
    return [f"{count} {verb(count, *problem)}, the first: {next(iter(messages))}"]


def damaged_line(paths: Collection[str]) -> str:
    """Return a line that says how many files of a run folder were damaged, and of which kinds they
    are.

    >>> damaged_line(["run/records/a.parquet", "run/records/b.parquet", "run/image_hashes.json"])
    '3 damaged files are replaced: 2 in records, image_hashes.json'
    """
    folders = {artefact.place for artefact in artefacts.TABLE if artefact.suffixes}
    counts: Counter[str] = Counter()
    for path in map(Path, paths):
        if path.suffix == SUFFIX:
            kind = CACHE
        elif path.parent.name in folders:
            kind = path.parent.name
        else:
            kind = path.name
        counts[kind] += 1
    parts = []
    for kind, count in counts.items():
        is_file = "." in kind and kind != CACHE  # a file in no folder is listed by its own name
        parts.append(kind if is_file else f"{count} in {kind}")
    return (
        f"{plural(len(paths), 'damaged file')} {verb(len(paths), 'is', 'are')} replaced: "
        f"{', '.join(parts)}"
    )


@contextmanager
def kernel_notes() -> Iterator[Notes]:
    """Collect a note for each kernel that adds in any order. The notes are complete when the block
    ends.

    Torch reports such kernels only by warnings, so this catches all warnings and issues the other
    ones again.
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
                    f"{kernel} adds in any order on this GPU: the last digits of values may change "
                    "from run to run."
                )
                notes.add(MachineNote(sentence))
            else:
                warnings.warn_explicit(
                    warning.message, warning.category, warning.filename, warning.lineno
                )
