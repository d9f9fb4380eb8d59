"""The classes and their order: from a list in the configuration, or from a file.

A label of the data must be the index of the same class in the network's logits. Otherwise heatmaps
would explain another class than the one that boxes and masks show.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from axiom_bench.data.formats.files import (
    files_named,
    lines_of,
    nfc,
    plain_name,
    reason_of,
    table_of,
)
from axiom_bench.data.formats.urls import is_url
from axiom_bench.errors import BenchError
from axiom_bench.kinds import File, Name

Classes = Sequence[Name | int] | File  # a list, or a file of one class per line
ClassIndex = Mapping[str, int]  # {class, or another name of it: class index}
SYNSETS = Path(__file__).parent.parent / "imagenet_synsets.txt"
SYNSET_ID = re.compile(r"n\d{8}")
SYNSET = re.compile(r"n\d{8}\s+(?=\S)")  # before a name
# A synset id or number before a name, such as in 001.Black_footed_Albatross.
PREFIX = re.compile(r"(n\d{8}[\s_-]+|\d+\.\s*)(?=[^\d\s])")
# An index, and the class after it.
NUMBERED = re.compile(r"\{?\s*(\d+)(?:\s*[:,]\s*|\s+)['\"]?(\S.*?)['\"]?,?\}?")
IMAGENET_CLASSES = 1000
HEADINGS = ("name", "names", "class", "classes", "label", "labels", "class_name", "category")


def class_list(classes: Classes) -> dict[str, str]:
    """Return {class: its readable name}, in order of class index.

    Args:
        classes: A list, or a file of one class per line. The first word of a line is the class,
            and the rest its name ("n01440764 tench").

    Raises:
        BenchError: For a missing file, or a class that occurs twice.
    """
    if isinstance(classes, str):
        lines = [line.split(maxsplit=1) for line in _lines(classes, "data.classes")]
    else:
        lines = [[str(name)] for name in classes]
    names = {words[0]: words[-1].strip() for words in lines}
    if not names or len(names) != len(lines):
        raise BenchError("data.classes must hold at least one class, and each only once.")
    return names


def index_of_classes(classes: Iterable[str]) -> dict[str, int]:
    """Return {class: class index}. A class is also found by its Unicode form NFC."""
    index: dict[str, int] = {}
    exact: dict[str, int] = {}
    for number, name in enumerate(classes):
        index[nfc(name)] = number
        exact[name] = number
    return index | exact


def network_class_names(classes: Classes, setting: str = "model.classes") -> tuple[str, ...]:
    """Return the readable names of a network's classes, in the order of its logits.

    Args:
        classes: A list, or a file of one name per line ("golden retriever"). A synset id or an
            index before the name isn't part of it ("n02099601 golden retriever", "207: golden
            retriever"). A file may also be a JSON list, or a JSON mapping or CSV of indices and
            names in any order.
        setting: The name of the setting, for errors.

    Raises:
        BenchError: For a missing file, or if indices aren't 0, 1, 2, ...
    """
    if not isinstance(classes, str):
        return tuple(map(str, classes))
    lines = _lines(classes, setting)
    if classes.lower().endswith((".json", ".csv")):
        return _numbered(_rows(lines, f"{setting}={classes}"), f"{setting}={classes}")
    lines = [SYNSET.sub("", line.strip(), count=1) for line in lines]
    numbered = [match.groups() for line in lines if (match := NUMBERED.fullmatch(line))]
    if [number for number, _ in numbered] == [str(index) for index in range(len(lines))]:
        return tuple(name for _, name in numbered)
    return tuple(lines)


def names_of_data(classes: Classes) -> tuple[str, ...]:
    """Return the names of a data set's classes, see `network_class_names`.

    Raises:
        BenchError: For a background among them, which would take the number of a class in masks.
    """
    names = network_class_names(classes, "data.classes")
    if backgrounds := [
        index for index, name in enumerate(names) if plain_name(name) == "background"
    ]:
        raise BenchError(
            "data.classes names a background: leave it out, and set "
            f"model.background={backgrounds[0]}."
        )
    return names


def class_indices(
    labels: Collection[str], classes: Sequence[str], names: Sequence[str]
) -> dict[str, int]:
    """Return {label: class index} of the labels that are called by a class.

    A label is the class itself, its name, or one of the names that commas separate. Case, _ and -
    for spaces, and a synset id or a number before the label don't matter. A label that two classes
    share isn't found.
    """
    texts = [_named(name) for name in names]
    parts = []
    for index, text in enumerate(texts):
        for part in {*text.split(",")}:
            parts.append((index, part.strip()))
    firsts = [(index, text.partition(",")[0]) for index, text in enumerate(texts)]
    index_by_text: dict[str, int] = {}
    # Later forms replace earlier ones: a whole name counts more than a part of another name.
    for pairs in (parts, firsts, [*enumerate(texts)], [*enumerate(map(_named, classes))]):
        counts = Counter(text for _, text in pairs)
        index_by_text |= {text: index for index, text in pairs if counts[text] == 1}
    return {
        label: index_by_text[_named(label)] for label in labels if _named(label) in index_by_text
    }


def _named(text: str) -> str:
    """Return the plain form of a name, without a synset id or a number before it."""
    return plain_name(PREFIX.sub("", text, count=1))


@dataclass(frozen=True)
class NetworkClasses:
    """The classes of the network that a data set's images are shown to.

    Attributes:
        names: One name per class; None if the names aren't known.
        count: The number of classes.
    """

    names: Sequence[str] | None
    count: int

    def without(self, background: int | None) -> NetworkClasses:
        """Return the classes without the background's output; None if no output is background.

        The classes of the data don't have it.
        """
        if background is None:
            return self
        names = None if self.names is None else [*self.names]
        if names:
            del names[background]
        return NetworkClasses(names, self.count - 1)

    @property
    def names_by_class(self) -> dict[str, str]:
        """{class: its readable name}, in order of class index.

        1,000 classes are called by ImageNet's synset ids, others by their index.
        """
        classes = [str(index) for index in range(self.count)]
        if self.count == IMAGENET_CLASSES:
            classes = imagenet_synsets()
        return dict(zip(classes, self.names or classes, strict=True))

    def indices(self, folders: Collection[str], only_numbers: bool = False) -> dict[str, int]:
        """Return {folder: class index} of the folders that are called by a class.

        A folder is called as in `class_indices`, by its synset id of ImageNet, or by its index.
        Folders that are all numbers and count from 1 don't count.

        Args:
            folders: The names of the folders.
            only_numbers: True if a folder may be called by its class's index only.
        """
        synsets = imagenet_synsets() if self.count == IMAGENET_CLASSES else []
        index_by_name = {} if only_numbers else class_indices(folders, synsets, self.names or ())
        if (
            self.names
            and not synsets
            and not only_numbers
            and any(map(SYNSET_ID.fullmatch, folders))
        ):
            # A network of some of ImageNet's classes, such as Imagenette's ten, has their names.
            synset_names = imagenet_names()
            readable = {folder: synset_names.get(folder, folder) for folder in folders}
            index_by_text = class_indices(readable.values(), [], self.names)
            for folder, text in readable.items():
                if text in index_by_text:
                    index_by_name[folder] = index_by_text[text]
        numbers = {
            folder: int(folder)
            for folder in {*folders} - index_by_name.keys()
            if folder.isdecimal()
        }
        # As indices from 0, numbers from 1 would label each image with the class after its own.
        count_from_1 = (
            len(numbers) == len(folders) > 1
            and min(numbers.values()) > 0
            and max(numbers.values()) == self.count
        )
        if count_from_1:
            return index_by_name
        return index_by_name | {
            folder: index for folder, index in numbers.items() if index < self.count
        }


def imagenet_synsets() -> list[str]:
    """Return the synset ids of ILSVRC2012's 1,000 classes, in the standard order."""
    return SYNSETS.read_text(encoding="ascii").split()


def imagenet_names() -> dict[str, str]:
    """Return {synset id: its readable name in torchvision} of ILSVRC2012's 1,000 classes."""
    from axiom_bench.data.torchvision_import import torchvision  # only if it is needed

    names = torchvision.models.ResNet18_Weights.DEFAULT.meta["categories"]
    return dict(zip(imagenet_synsets(), names, strict=True))


def _lines(file: str, setting: str) -> list[str]:
    """Return the lines of a file, or of the one file of a URL."""
    if is_url(file):
        copied = list(files_named(file, "").values())
        if len(copied) != 1:
            raise BenchError(
                f"{setting}={file} names {len(copied)} files; give the URL of one file."
            )
        file = str(copied[0])
    if not os.path.isfile(file):
        raise BenchError(
            f"{setting}: there is no file {file!r}; give a list, or a file with one class per line."
        )
    return lines_of(Path(file), "The list of classes")


def _rows(lines: Sequence[str], source: str) -> list[list[str]]:
    """Return (index, name) or (name, index) of each class, or only its name.

    The heading of a CSV file is left out.
    """
    if source.lower().endswith(".csv"):
        rows = [[cell.strip() for cell in row[:2]] for row in table_of(lines)[1]]
        has_heading = rows[0][0].lower() in HEADINGS
        if len(rows[0]) > 1:
            has_heading = not any(map(str.isdecimal, rows[0]))
        return rows[1:] if has_heading else rows
    try:
        content = json.loads("\n".join(lines))
        entries = enumerate(content) if isinstance(content, list) else content.items()
    except (ValueError, RecursionError, AttributeError) as error:
        raise BenchError(
            f"{source} is no JSON of names ({reason_of(error)}); give a list or a mapping."
        ) from error
    rows = []
    for key, value in entries:
        name = value[-1] if isinstance(value, list) else value  # Keras has [synset id, name]
        rows.append([str(key), str(name)])
    return rows


def _numbered(rows: list[list[str]], source: str) -> tuple[str, ...]:
    """Return the names in the order of the indices, which may be in either column.

    Without indices the names stay as they are.
    """
    if all(len(row) == 1 for row in rows):
        return tuple(row[0] for row in rows)
    for column in (0, -1):
        names = {row[column]: row[-1 - column] for row in rows}
        if len(names) == len(rows) and names.keys() == {str(index) for index in range(len(names))}:
            return tuple(names[str(index)] for index in range(len(names)))
    raise BenchError(
        f"{source} must number its classes from 0 on, each once; give their names in order."
    )
