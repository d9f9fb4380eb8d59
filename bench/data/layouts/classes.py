"""Which classes there are, and in which order: from a list in the configuration, or from a file."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from pathlib import Path

from axiom_bench.data.formats.files import MAX_TEXT, as_text, content_of, lines_of, why
from axiom_bench.errors import BenchError
from axiom_bench.kinds import File, Name

Classes = Sequence[Name | int] | File  # a list, or a file of one class a line
SYNSETS = Path(__file__).parent.parent / "imagenet_synsets.txt"
MAPPING = "LOC_synset_mapping.txt"
ARCHIVE = "ILSVRC2012_devkit_t12.tar.gz"
META, TRUTH = "meta.mat", "ILSVRC2012_validation_ground_truth.txt"
FOLDERS = ("", "data", "ILSVRC2012_devkit_t12/data")  # below the root of the data set
SYNSET = re.compile(r"n\d{8}\s+(?=\S)")  # before a name
CLASSES = 1000  # the numbers 1 to 1000 are the challenge's classes; inner nodes of the hierarchy come after


@dataclass(frozen=True)
class Devkit:
    """meta: the content of meta.mat. truth: of the ground truth, or None. source: where meta is, for errors."""

    meta: bytes
    truth: bytes | None
    source: str

    @staticmethod
    def find(root: Path) -> Devkit | None:
        """The kit below a root, or in its archive there; None where there is neither. Raises BenchError."""
        meta, truth = (_unpacked(root, name) for name in (META, TRUTH))
        if meta is not None:
            return Devkit(meta[0], None if truth is None else truth[0], meta[1])
        if not os.path.isfile(root / ARCHIVE):
            return None
        from axiom_bench.data.formats.archive import read_compressed  # here, because it imports numpy

        members = read_compressed(root / ARCHIVE, (META, TRUTH))
        if META not in members:
            raise BenchError(f"{root / ARCHIVE} holds no {META}; it isn't the kit of ILSVRC2012's tasks 1 and 2.")
        return Devkit(members[META], members.get(TRUTH), f"{root / ARCHIVE}:{META}")

    @cached_property
    def synsets(self) -> Mapping[int, tuple[str, str]]:
        """{the kit's number of a class, from 1: (synset id, name)}. Raises BenchError for a file of another form."""
        from scipy.io import loadmat  # here, because it takes a fifth of a second to import

        try:
            entries = loadmat(BytesIO(self.meta), squeeze_me=True, struct_as_record=False)["synsets"]
            listed = [
                (int(entry.ILSVRC2012_ID), (str(entry.WNID), str(getattr(entry, "words", entry.WNID))))
                for entry in entries
            ]
        except Exception as error:  # what scipy raises for a file of another form is not documented
            raise BenchError(f"{self.source} can't be read as the kit's table of classes ({why(error)}).") from error
        synsets = {number: entry for number, entry in sorted(listed) if number <= CLASSES}
        wnids = {wnid for number, (wnid, _) in listed if number <= CLASSES}
        if [*synsets] != [*range(1, len(wnids) + 1)]:
            raise BenchError(f"{self.source} doesn't number its classes from 1, each once; get the kit again.")
        return synsets

    @property
    def classes(self) -> dict[str, str]:
        """{synset id: name} in the standard order, which is that of the ids: what networks are trained with."""
        return dict(sorted(self.synsets.values()))

    def labels(self, stems: list[str]) -> dict[str, str]:
        """{image: synset id} for images called by their number, as ILSVRC2012_val_00000001.

        The ground truth has one number a line, for the images in order; a subset of the images works too. Raises
        ValueError, IndexError or KeyError where it doesn't fit.
        """
        numbers = dict(enumerate(map(int, (self.truth or b"").split()), start=1))
        return {stem: self.synsets[numbers[int(stem.rpartition("_")[2])]][0] for stem in stems}


def _unpacked(root: Path, name: str) -> tuple[bytes, str] | None:
    """(content, path) of one of the kit's files below the root; None where it isn't there."""
    path = next((root / folder / name for folder in FOLDERS if os.path.isfile(root / folder / name)), None)
    try:
        return None if path is None else (content_of(path, MAX_TEXT), as_text(path))
    except OSError as error:
        raise BenchError(f"The devkit's file {as_text(str(path))} can't be read: {why(error)}.") from error


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

    classes: a list, or a file of one name a line ("golden retriever"; of "n02099601 golden retriever" the name). Raises
    BenchError for a missing file.
    """
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
        classes = imagenet_synsets() if self.count == CLASSES else [str(index) for index in range(self.count)]
        return dict(zip(classes, self.names or classes, strict=True))

    def indices(self, folders: Collection[str], only_numbers: bool = False) -> dict[str, int]:
        """{folder: class index} of the folders that are called by a class: its name, in any case and with _ for spaces,
        the first of its names by comma, its synset id, or its index. A name that two classes have is none."""
        names = [] if only_numbers else [_plain(name) for name in self.names or ()]
        firsts = [name.partition(",")[0] for name in names]
        known = {first: index for index, first in enumerate(firsts) if firsts.count(first) == 1}
        known |= {name: index for index, name in enumerate(names) if names.count(name) == 1}
        if not only_numbers and self.count == CLASSES:
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


def synsets(root: Path, classes: Classes | None) -> dict[str, str]:
    """{synset id: name} in the order of class indices: from `classes`, else from the root's LOC_synset_mapping.txt,
    else from the devkit.

    Never from the folders that happen to exist: a subset of ImageNet would number its classes anew.
    """
    if classes is not None:
        return class_list(classes)
    if os.path.isfile(root / MAPPING):
        return class_list(str(root / MAPPING))
    kit = Devkit.find(root)
    if kit is None:
        raise BenchError(
            f"The order of the classes isn't known: there is no {root / MAPPING}. Put it there, a line such as "
            f"'n01440764 tench' for each class in the model's order, or the devkit ({ARCHIVE}), or set data.classes to "
            "the synset ids in the model's order."
        )
    return kit.classes
