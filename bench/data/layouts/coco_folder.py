"""COCO's annotation file next to a folder of images, as Roboflow, CVAT and other tools export it.

The file is the only JSON in the folder, or annotations/instances_*.json. It may also be in the
folder above.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from axiom_bench.data.formats.files import as_text, comparable_name
from axiom_bench.data.layouts.coco import Entry, read_instances
from axiom_bench.data.layouts.label_files import index_images_by_name, named_image
from axiom_bench.errors import BenchError

BEGINNING = 2**16  # bytes in which COCO's keys are looked for
KEYS = (b'"images"', b'"annotations"', b'"categories"', b'"info"', b'"licenses"')


@dataclass(frozen=True)
class CocoFile:
    """An annotation file in COCO's form.

    Attributes:
        path: The file.
        folder: The folder below which the file's names of images are paths.
        categories: The names of the categories, by ascending id.
    """

    path: Path
    folder: Path
    categories: tuple[str, ...]


def find_coco(root: Path, images: Sequence[str]) -> CocoFile | None:
    """Return COCO's annotation file of a folder of images; None if there is none.

    Args:
        root: The folder.
        images: The images below it.

    Raises:
        BenchError: If several files fit, or the file has another form than COCO's.
    """
    folder = Path(os.path.abspath(root))
    found = _annotation_files(folder)
    if len(found) > 1:
        split = found[0].stem.removeprefix("instances_")
        raise BenchError(
            f"{as_text(folder)} has {len(found)} annotation files, such as "
            f"{as_text(found[0].name)}; set data=coco data.root={as_text(folder)} "
            f"data.split={split}."
        )
    above = [] if found else _annotation_files(folder.parent)
    of_split = [path for path in above if path.stem == f"instances_{folder.name}"]
    files = found or of_split or above
    if len(files) != 1:
        return None
    entries, _, categories = read_instances(files[0])
    folder_of_images = _folder_of_images(folder, images, entries)
    if folder_of_images is None and above:  # the file is of other images
        return None
    return CocoFile(files[0], folder_of_images or folder, tuple(categories.values()))


def _annotation_files(folder: Path) -> list[Path]:
    """Return the files in a folder that may be COCO's."""
    files = sorted(folder.glob("*.json"))
    if len(files) == 1 and _looks_like_coco(files[0]):
        return files
    return sorted(folder.glob("annotations/instances_*.json"))


def _folder_of_images(folder: Path, images: Sequence[str], entries: Sequence[Entry]) -> Path | None:
    """Return the folder below which the names in the file are paths; None if no image has one."""
    images_by_name = index_images_by_name(images)
    for entry in entries:
        name = comparable_name(str(entry["file_name"]))
        image = named_image(name, images_by_name)
        path = f"{folder}/{image}"
        if image is not None and path.endswith(f"/{name}"):
            return Path(path.removesuffix(name))
    return None


def _looks_like_coco(path: Path) -> bool:
    """Return whether a JSON file begins with at least two of COCO's keys."""
    with path.open("rb") as file:
        beginning = file.read(BEGINNING)
    return path.stem.endswith(".coco") or sum(key in beginning for key in KEYS) > 1
