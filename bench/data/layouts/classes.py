"""Which classes there are, and in which order: from a list in the configuration, or from a file."""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from axiom_bench.data.formats.files import lines_of
from axiom_bench.errors import BenchError
from axiom_bench.kinds import File, Name

Classes = Sequence[Name | int] | File  # a list, or a file of one class a line
SYNSETS = Path(__file__).parent.parent / "imagenet_synsets.txt"
SYNSET = re.compile(r"n\d{8}\s+(?=\S)")  # before a name
IMAGENET_CLASSES = 1000
HEADINGS = ("name", "names", "class", "classes", "label", "labels", "class_name", "category")


def class_list(classes: Classes) -> dict[str, str]:
    """{class: its readable name}, in order of class index.

    classes: a list, or a file of one class a line, its first word the class and the rest the name ("n01440764 tench").
    Raises BenchError for a missing file, or a class that occurs twice.
    """
    if isinstance(classes, str):
        lines = [line.split(maxsplit=1) for line in _lines(classes, "data.classes")]
    else:
        lines = [[str(name)] for name in classes]
    names = {words[0]: words[-1].strip() for words in lines}
    if not names or len(names) != len(lines):
        raise BenchError("data.classes must hold at least one class, and each only once.")
    return names


def names_of_logits(classes: Classes) -> tuple[str, ...]:
    """What people call a network's classes, in the order of its logits.

    classes: a list, or a file of one name a line ("golden retriever"; of "n02099601 golden retriever" the name), a JSON
    list, a JSON mapping or a CSV file of indices and names in any order. Raises BenchError for a missing file, and
    where indices aren't 0, 1, 2, ...
    """
    if isinstance(classes, str) and classes.lower().endswith((".json", ".csv")):
        return _numbered(_rows(_lines(classes, "model.classes"), classes), classes)
    if isinstance(classes, str):
        return tuple(SYNSET.sub("", line.strip(), count=1) for line in _lines(classes, "model.classes"))
    return tuple(map(str, classes))


@dataclass(frozen=True)
class NetworkClasses:
    """The classes of the network that a data set's images are shown to. names: one for each, None where they aren't
    known. count: of classes."""

    names: Sequence[str] | None
    count: int

    @property
    def listed(self) -> dict[str, str]:
        """{class: its readable name}, in order of class index: by ImageNet's synset ids for 1,000 classes, else by
        index."""
        classes = imagenet_synsets() if self.count == IMAGENET_CLASSES else [str(index) for index in range(self.count)]
        return dict(zip(classes, self.names or classes, strict=True))

    def indices(self, folders: Collection[str], only_numbers: bool = False) -> dict[str, int]:
        """{folder: class index} of the folders that are called by a class: its name, in any case and with _ for spaces,
        the first of its names by comma, its synset id, or its index. A name that two classes have is none."""
        names = [] if only_numbers else [_plain(name) for name in self.names or ()]
        firsts = [name.partition(",")[0] for name in names]
        known = {first: index for index, first in enumerate(firsts) if firsts.count(first) == 1}
        known |= {name: index for index, name in enumerate(names) if names.count(name) == 1}
        if not only_numbers and self.count == IMAGENET_CLASSES:
            known |= {synset: index for index, synset in enumerate(imagenet_synsets())}
        numbers = {folder: int(folder) for folder in folders if folder.isdecimal() and int(folder) < self.count}
        return numbers | {folder: known[_plain(folder)] for folder in folders if _plain(folder) in known}


def imagenet_synsets() -> list[str]:
    """The synset ids of ILSVRC2012's 1,000 classes, in the standard order."""
    return SYNSETS.read_text(encoding="ascii").split()


def _plain(name: str) -> str:
    return name.replace("_", " ").strip().casefold()


def _lines(file: str, setting: str) -> list[str]:
    if not os.path.isfile(file):
        raise BenchError(f"{setting}: there is no file {file!r}; give a list, or a file of one class a line.")
    return lines_of(Path(file), "The list of classes")


def _rows(lines: Sequence[str], file: str) -> list[list[str]]:
    """(index, name) or (name, index) of each class, or its name alone, below a CSV file's heading."""
    if file.lower().endswith(".csv"):
        rows = [[cell.strip() for cell in row[:2]] for row in csv.reader(lines)]
        is_heading = not any(map(str.isdecimal, rows[0])) if len(rows[0]) > 1 else rows[0][0].lower() in HEADINGS
        return rows[is_heading:]
    try:
        content = json.loads("\n".join(lines))
        entries = enumerate(content) if isinstance(content, list) else content.items()
    except (ValueError, RecursionError, AttributeError) as error:
        raise BenchError(f"model.classes: {file} is no JSON of names ({error}); give a list or a mapping.") from error
    return [[str(key), str(value[-1] if isinstance(value, list) else value)] for key, value in entries]  # Keras's lists


def _numbered(rows: list[list[str]], file: str) -> tuple[str, ...]:
    """The names in the order of the indices, which may be in either column; as they stand where there are none."""
    if all(len(row) == 1 for row in rows):
        return tuple(row[0] for row in rows)
    for place in (0, -1):
        names = {row[place]: row[-1 - place] for row in rows}
        if len(names) == len(rows) and names.keys() == {str(index) for index in range(len(names))}:
            return tuple(names[str(index)] for index in range(len(names)))
    raise BenchError(f"model.classes: {file} must number its classes from 0 on, each once; give their names in order.")
