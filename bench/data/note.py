"""The label and boxes that are stored beside an image, as values of JSON or of a table."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from axiom_bench.data.base import Box, Objects
from axiom_bench.data.file_names import shown

MAX_CLASS = 999_999  # class indices are counted in thousands
_NUMBER = re.compile(r"-1|[0-9]{1,9}")
UNLABELLED = -1  # the label of images whose class isn't told, as in ImageNet's test set on Hugging Face


@dataclass(frozen=True)
class Note:
    """label: class index, or None. objects: (class index, box), boxes as they are stored, which may lead out of the
    image. problems: sentences on what is malformed."""

    label: int | None = None
    objects: Objects = ()
    problems: tuple[str, ...] = ()

    @staticmethod
    def of(label: object, boxes: object, classes: Mapping[str, int]) -> Note:
        """label: a class index, the name of a class, or None; -1 is none. boxes: a list of [x0, y0, x1, y1] in pixels
        from 0, x1 and y1 exclusive, of the image's class, or {"label": ..., "box": [x0, y0, x1, y1]}; or None.
        """
        index, problems = _label(label, classes)
        objects: list[tuple[int, Box]] = []
        for entry in boxes if isinstance(boxes, list) else [] if boxes is None else [boxes]:
            own, box = (entry.get("label"), entry.get("box")) if isinstance(entry, Mapping) else (None, entry)
            of_box, wrong = (index, []) if own is None else _label(own, classes)
            corners = _corners(box)
            if of_box is None or corners is None:
                problems += wrong or [f"a malformed box: {shown(entry)}"]
            else:
                objects.append((of_box, corners))
        return Note(index, tuple(objects), tuple(problems))

    def clipped(self, image_id: str, size: tuple[int, int]) -> tuple[Objects, tuple[str, ...]]:
        """(the objects with boxes inside an image of this size (width, height); all problems). An empty box is one."""
        objects: list[tuple[int, Box]] = []
        problems = [f"{image_id} has {problem}" for problem in self.problems]
        for label, (x0, y0, x1, y1) in self.objects:
            box = max(x0, 0.0), max(y0, 0.0), min(x1, float(size[0])), min(y1, float(size[1]))
            if box[0] < box[2] and box[1] < box[3]:
                objects.append((label, box))
            else:
                problems.append(f"{image_id} has an empty box: {shown([x0, y0, x1, y1])}")
        return tuple(objects), tuple(problems)


def _label(value: object, classes: Mapping[str, int]) -> tuple[int | None, list[str]]:
    """(class index or None, problems)."""
    if isinstance(value, str):
        text = value.strip()
        value = classes.get(text, int(text) if _NUMBER.fullmatch(text) else text)
    if value is None or (type(value) is int and value == UNLABELLED):
        return None, []
    if type(value) is int and 0 <= value <= MAX_CLASS:
        return value, []
    return None, [f"a label that is no class: {shown(value)}"]


def _corners(box: object) -> Box | None:
    """The box, None for a malformed one."""
    if not isinstance(box, list) or len(box) != 4:
        return None
    if not all(type(value) in (int, float) and abs(value) < 1e9 for value in box):  # NaN is not below it either
        return None
    x0, y0, x1, y1 = map(float, box)
    return x0, y0, x1, y1
