"""Which classes there are, and in which order: from a list in the configuration, or from a file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from axiom_bench.data.formats.reading import lines_of
from axiom_bench.data.layouts.devkit import ARCHIVE, Devkit
from axiom_bench.errors import BenchError
from axiom_bench.kinds import File, Name

Classes = Sequence[Name | int] | File  # a list, or a file of one class a line
MAPPING = "LOC_synset_mapping.txt"


def class_list(classes: Classes) -> dict[str, str]:
    """{class: its readable name}, in order of class index.

    classes: a list, or a file of one class a line, its first word the class and the rest the name ("n01440764 tench").
    Raises BenchError for a missing file, or a class that occurs twice.
    """
    if isinstance(classes, str):
        path = Path(classes)
        if not os.path.isfile(path):
            raise BenchError(f"data.classes: there is no file {classes!r}; give a list, or a file of one class a line.")
        lines = [line.split(maxsplit=1) for line in lines_of(path, "The list of classes")]
    else:
        lines = [[str(name)] for name in classes]
    names = {words[0]: words[-1].strip() for words in lines}
    if not names or len(names) != len(lines):
        raise BenchError("data.classes must hold at least one class, and each only once.")
    return names


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
