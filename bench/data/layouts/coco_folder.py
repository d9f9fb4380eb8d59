"""COCO's annotation file next to a folder of images, such as Roboflow exports.

The file is the only JSON in the folder, or annotations/instances_*.json in it or next to it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from axiom_bench.data.formats.files import as_name, as_text
from axiom_bench.data.layouts.coco import read_instances
from axiom_bench.errors import BenchError

BEGINNING = 2**16  # bytes in which COCO's keys are looked for
KEYS = (b'"images"', b'"annotations"', b'"categories"', b'"info"', b'"licenses"')


@dataclass(frozen=True)
class CocoFile:
    """An annotation file in COCO's form.

    Attributes:
        path: The file.
        root: The folder of the data set, as `coco` takes it.
        split: The folder of the images below the root.
        categories: The names of the categories, by ascending id.
    """

    path: Path
    root: Path
    split: str
    categories: tuple[str, ...]


def find_coco(root: Path) -> CocoFile | None:
    """Return COCO's annotation file of a folder of images; None if there is none.

    Raises:
        BenchError: If several files fit, or the file has another form than COCO's.
    """
    folder = Path(os.path.abspath(root))
    own = sorted(folder.glob("*.json"))
    listed = sorted(folder.glob("annotations/instances_*.json"))
    beside = sorted(folder.parent.glob(f"annotations/instances_{folder.name}.json"))
    if len(own) == 1 and _looks_like_coco(own[0]):
        listed = own
    found = listed or beside
    if not found:
        return None
    if len(found) > 1:
        split = found[0].stem.removeprefix("instances_")
        raise BenchError(
            f"{as_text(folder)} has {len(found)} annotation files, such as "
            f"{as_text(found[0].name)}; set data=coco data.root={as_text(folder)} "
            f"data.split={split}."
        )
    path = found[0]
    images, _, categories = read_instances(path)
    split = path.stem.removeprefix("instances_")
    names = [as_name(str(entry["file_name"])) for entry in images[:1]]
    is_below = any((folder / split / name).is_file() for name in names)
    return CocoFile(path, folder, split if is_below else ".", tuple(categories.values()))


def _looks_like_coco(path: Path) -> bool:
    """Return whether a JSON file begins with at least two of COCO's keys."""
    with path.open("rb") as file:
        beginning = file.read(BEGINNING)
    return path.stem.endswith(".coco") or sum(key in beginning for key in KEYS) > 1
