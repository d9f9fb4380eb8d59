"""Images in larger files (archives and tables), and their labels and boxes as numbers, names or
lists.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from axiom_bench.data.base import Box, inside
from axiom_bench.data.formats.files import one_form, shown
from axiom_bench.data.layouts.classes import ClassIndex
from axiom_bench.data.layouts.table import Labels, Note, Row, Size, Table
from axiom_bench.errors import BenchError

MAX_CLASS = 999_999  # class indices are counted in thousands
_NUMBER = re.compile(r"-1|[0-9]{1,9}")
UNLABELLED = (
    -1
)  # the label of images whose class isn't told, as in ImageNet's test set on Hugging Face
NO_NOTE = Note()


@dataclass(frozen=True, slots=True)
class Entry:
    """An image in a larger file. place: of the image in it; None where there is none, and `missing`
    says why.
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
        module: As in Table, and so are name and classes.
        entries: {image id: entry}
        read: Return the bytes at the place of an entry. Raises OSError.
        layout: What is expected.
        nothing: Why there is no image, if no entry says it.
        column: The column of the images in the files, if a setting names it.

    Raises:
        BenchError: if there is no image, and for a label beyond the classes.
    """
    if all(entry.place is None for entry in entries.values()):
        reason = next((entry.missing for entry in entries.values()), nothing)
        raise BenchError(f"There are no images in data.path: {reason}. Expected {layout}.")
    ids = tuple(sorted(entries))
    in_order = tuple(entries[image_id] for image_id in ids)
    labels = tuple(entry.note.labels for entry in in_order)
    return Table(
        module,
        name,
        ids,
        numbered_classes(name, classes, ids, labels),
        labels,
        row=partial(_row, ids, in_order, read, column),
        orientation="EXIF orientations are applied to images without boxes, which are in stored pixels",
    )


def _row(
    ids: Sequence[str],
    entries: Sequence[Entry],
    read: Callable[[Entry], bytes],
    column: str,
    index: int,
) -> Row:
    image_id = ids[index]
    entry = entries[index]

    def contents() -> tuple[bytes]:
        if entry.place is None:
            raise OSError(entry.missing)
        return (read(entry),)

    return Row(
        (entry.file,),
        annotate=partial(cut, entry.note, image_id),
        facts=lambda: repr(entry.note),
        contents=contents,
        part=f"{image_id} {column}",
        is_upright=not entry.note.objects,
    )


def numbered_classes(
    name: str, classes: Mapping[str, str], ids: Sequence[str], labels: Sequence[Labels]
) -> Mapping[str, str]:
    """Return the classes of a data set's labels: if none are known, the numbers up to the largest
    label.

    Raises BenchError for a label beyond the classes.
    """
    largest, image_id = max(
        (max(of_image, default=0), image_id) for of_image, image_id in zip(labels, ids, strict=True)
    )
    if not classes:
        return {str(number): str(number) for number in range(largest + 1)}
    if largest >= len(classes):
        raise BenchError(
            f"{name!r} labels {image_id!r} with class {largest}, but its classes are 0 to "
            f"{len(classes) - 1}; set data.classes to all classes, in the order of their numbers."
        )
    return classes


def cut(note: Note, image_id: str, size: Size) -> Note:
    """Return the note of an image with its boxes cut to the image's size, and problems that name
    the image.
    """
    objects: list[tuple[int, Box]] = []
    problems = [f"{image_id} has {problem}" for problem in note.problems]
    for label, box in note.objects:
        if len(box) != 2 * len(size):
            problems.append(f"{image_id} has a malformed box: {shown([*box])}")
            continue
        part, problem = inside(box, size)
        if part is not None:
            objects.append((label, part))
        if problem:
            problems.append(f"{image_id}: the box {shown([*box])} {problem}")
    return replace(note, objects=tuple(objects), problems=tuple(problems))


def note_of(label: object, boxes: object, classes: ClassIndex) -> Note:
    """Return what a label and boxes say, with boxes as they are stored, which may lead out of the
    image.

    label: A class index, a class of `classes`, or None; -1 is none. boxes: A list of [x0, y0, x1,
    y1] in pixels from 0, x1 and y1 exclusive, of the image's class, or {"label": ..., "box": [x0,
    y0, x1, y1]}; or None.
    """
    index, problems = _label(label, classes)
    objects: list[tuple[int, Box]] = []
    for entry in boxes if isinstance(boxes, list) else [] if boxes is None else [boxes]:
        name, box = (
            (entry.get("label"), entry.get("box")) if isinstance(entry, Mapping) else (None, entry)
        )
        of_box, wrong = (index, []) if name is None else _label(name, classes)
        corners = _corners(box)
        if of_box is None or corners is None:
            problems += wrong or [f"a malformed box: {shown(entry)}"]
        else:
            objects.append((of_box, corners))
    return Note(index, tuple(objects), tuple(problems))


def _label(value: object, classes: ClassIndex) -> tuple[int | None, list[str]]:
    """Return the class index, None without one, and problems."""
    if isinstance(value, str):
        text = value.strip()
        number = int(text) if _NUMBER.fullmatch(text) else text
        value = classes.get(text, classes.get(one_form(text), number))
    if value is None or (type(value) is int and value == UNLABELLED):
        return None, []
    if type(value) is int and 0 <= value <= MAX_CLASS:
        return value, []
    return None, [f"a label that is no class: {shown(value)}"]


def _corners(box: object) -> Box | None:
    """Return the box, None for a malformed one."""
    if not isinstance(box, list) or not all(
        type(value) in (int, float) and abs(value) < 1e9 for value in box
    ):
        return None  # also for NaN, which isn't below it either
    return tuple(map(float, box)) if len(box) in (2, 4, 6) else None
