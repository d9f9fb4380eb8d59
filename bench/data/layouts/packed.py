"""Images in larger files (archives and tables).

Their labels and boxes are numbers, names or lists.

WebDataset and Parquet use it: they differ only in how an image's bytes are found.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from axiom_bench.data.base import Box, clip_to_image
from axiom_bench.data.formats.files import nfc, short_repr
from axiom_bench.data.layouts.classes import ClassIndex
from axiom_bench.data.layouts.table import Labels, Note, Row, Size, Table
from axiom_bench.errors import BenchError

MAX_CLASS = 999_999  # a larger number is no class: class indices are counted in thousands
_NUMBER = re.compile(r"-1|[0-9]{1,9}")
# The label of images whose class isn't published, as in ImageNet's test set on Hugging Face.
UNLABELLED = -1
NO_NOTE = Note()


@dataclass(frozen=True, slots=True)
class Entry:
    """An image in a larger file.

    Attributes:
        file: The larger file.
        place: The place of the image in it; None if there is no image.
        note: The annotation.
        missing: The reason why there is no image.
    """

    file: Path
    place: Any
    note: Note = NO_NOTE
    missing: str = ""


def packed_table(
    module: str,
    name: str,
    classes: Mapping[str, str],
    entries: Mapping[str, Entry],
    read: Callable[[Entry], bytes],
    layout: str,
    nothing: str,
    column: str = "",
) -> Table:
    """Return the table of images in larger files.

    Args:
        module: As in Table.
        name: As in Table.
        classes: As in Table.
        entries: {image id: entry}
        read: Return the bytes at the place of an entry, or raise OSError.
        layout: The expected layout, for errors.
        nothing: The reason why there is no image, if no entry has one.
        column: The column of the images in the files, if a setting names it.

    Raises:
        BenchError: If there is no image, and for a label beyond the classes.
    """
    if all(entry.place is None for entry in entries.values()):
        reason = next((entry.missing for entry in entries.values()), nothing)
        raise BenchError(f"There are no images in data.path: {reason}. Expected {layout}.")
    ids = tuple(sorted(entries))
    # The index of an image is its place among the sorted ids.
    in_order = tuple(entries[image_id] for image_id in ids)
    labels = tuple(entry.note.labels for entry in in_order)
    return Table(
        module,
        name,
        ids,
        numbered_classes(name, classes, ids, labels),
        labels,
        row=partial(_row, ids, in_order, read, column),
        orientation=(
            "EXIF orientations are applied to images without boxes, which are in stored pixels"
        ),
    )


def _row(
    ids: Sequence[str],
    entries: Sequence[Entry],
    read: Callable[[Entry], bytes],
    column: str,
    index: int,
) -> Row:
    """Return the row of the image at this index."""
    image_id = ids[index]
    entry = entries[index]

    def contents() -> tuple[bytes]:
        if entry.place is None:
            raise OSError(entry.missing)
        return (read(entry),)

    return Row(
        (entry.file,),
        annotate=partial(clip_note, entry.note, image_id),
        facts=lambda: repr(entry.note),
        contents=contents,
        part=f"{image_id} {column}",
        is_upright=not entry.note.objects,
    )


def numbered_classes(
    name: str, classes: Mapping[str, str], ids: Sequence[str], labels: Sequence[Labels]
) -> Mapping[str, str]:
    """Return the classes of a data set's labels.

    If none are known, they are the numbers up to the largest label.

    Archives and tables often hold numbers only.

    Raises:
        BenchError: For a label beyond the classes.
    """
    largest_labels = (max(image_labels, default=0) for image_labels in labels)
    largest, image_id = max(zip(largest_labels, ids, strict=True))
    if not classes:
        return {str(number): str(number) for number in range(largest + 1)}
    if largest >= len(classes):
        raise BenchError(
            f"{name!r} labels {image_id!r} with class {largest}, but its classes are 0 to "
            f"{len(classes) - 1}; set data.classes to all classes, in the order of their numbers."
        )
    return classes


def clip_note(note: Note, image_id: str, size: Size) -> Note:
    """Return the note of an image with its boxes cut to the image's size.

    Its problems name the image.

    The size is only known when the image is decoded.
    """
    objects: list[tuple[int, Box]] = []
    problems = [f"{image_id} has {problem}" for problem in note.problems]
    for label, box in note.objects:
        if len(box) != 2 * len(size):  # such as a box of a volume on a picture
            problems.append(f"{image_id} has a malformed box: {short_repr([*box])}")
            continue
        part, problem = clip_to_image(box, size)
        if part is not None:
            objects.append((label, part))
        if problem:
            problems.append(f"{image_id}: the box {short_repr([*box])} {problem}")
    return replace(note, objects=tuple(objects), problems=tuple(problems))


def note_of(label: object, boxes: object, classes: ClassIndex) -> Note:
    """Return the note for a label and boxes as they are stored; boxes may lead out of the image.

    Args:
        label: A class index, a class of `classes`, or None; -1 is no class.
        boxes: A list, or None. An element is [x0, y0, x1, y1] for a box of the image's class, in
            pixels from 0, x1 and y1 exclusive, or {"label": ..., "box": [x0, y0, x1, y1]}.
        classes: {class: class index}.
    """
    index, problems = _label(label, classes)
    objects: list[tuple[int, Box]] = []
    if boxes is None:
        boxes = []
    elif not isinstance(boxes, list):
        boxes = [boxes]
    for entry in boxes:
        # a plain box is one of the image's class
        box = entry
        box_class = index
        label_problems: list[str] = []
        if isinstance(entry, Mapping):
            box = entry.get("box")
            if entry.get("label") is not None:
                box_class, label_problems = _label(entry["label"], classes)
        corners = _corners(box)
        if box_class is None or corners is None:
            problems += label_problems or [f"a malformed box: {short_repr(entry)}"]
        else:
            objects.append((box_class, corners))
    return Note(index, tuple(objects), tuple(problems))


def _label(value: object, classes: ClassIndex) -> tuple[int | None, list[str]]:
    """Return the class index, or None, and problems."""
    if isinstance(value, str):
        text = value.strip()
        number = int(text) if _NUMBER.fullmatch(text) else text
        value = classes.get(text, classes.get(nfc(text), number))
    if value is None or (type(value) is int and value == UNLABELLED):
        return None, []
    if type(value) is int and 0 <= value <= MAX_CLASS:
        return value, []
    return None, [f"a label that is no class: {short_repr(value)}"]


def _corners(box: object) -> Box | None:
    """Return the box, or None for a malformed one."""
    if not isinstance(box, list) or len(box) not in (2, 4, 6):
        return None
    # NaN isn't below 1e9 either.
    if not all(type(value) in (int, float) and abs(value) < 1e9 for value in box):
        return None
    return tuple(map(float, box))
