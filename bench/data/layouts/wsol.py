"""CUB-200-2011 and OpenImages30k as github.com/clovaai/wsolevaluation lays them out, and
CUB-200-2011 as it is published.

Lists in metadata/<collection>/<split> name the images, with a label each. The list of
localizations has boxes x0, y0, x1, y1 from 0, with x1 and y1 inside the box, or files of masks and
of regions to ignore. In its code (`get_mask`), the mask is the union of an image's masks, and the
ignored pixels are those of its region outside the mask.

The published tree has images.txt, image_class_labels.txt, train_test_split.txt and
bounding_boxes.txt with a line for each image, which begins with the image's number.
"""

from __future__ import annotations

import csv
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from axiom_bench.data.base import BACKGROUND, NO_VERDICT, BadImage, Box, clip_to_image
from axiom_bench.data.formats.decoding import open_image
from axiom_bench.data.formats.files import (
    as_name,
    as_text,
    ids_of,
    lines_of,
    listed_file,
    reason_of,
)
from axiom_bench.data.layouts.classes import PREFIX
from axiom_bench.data.layouts.table import Note, Row, Size, Table
from axiom_bench.data.layouts.trees import existing_folder
from axiom_bench.errors import BenchError, plural, unknown_name, verb
from axiom_bench.kinds import File, Name

LAYOUT = (
    "the layout of wsolevaluation: <root>/metadata/<collection>/<split>/class_labels.txt and the "
    "images in <root>/dataset/<collection>"
)
PUBLISHED = "CUB_200_2011"  # the folder of the published tree
SPLITS = {"train": "1", "test": "0"}  # in train_test_split.txt
BOX_CELLS = 5  # image, x0, y0, x1, y1
MASK_CELLS = 3  # image, mask, region to ignore


@dataclass(frozen=True)
class Lists:
    """The lists of a split.

    Attributes:
        labels: {image: class index}.
        sizes: {image: (width, height)}.
        boxes: {image: its boxes, x1 and y1 exclusive}.
        masks: {image: files of masks}.
        ignored: {image: files of regions to ignore}.
    """

    labels: Mapping[str, int]
    sizes: Mapping[str, Size]
    boxes: Mapping[str, Sequence[Box]]
    masks: Mapping[str, Sequence[str]]
    ignored: Mapping[str, Sequence[str]]


def wsol(
    root: File | Path, collection: Name = "CUB", split: Name = "test", name: Name = "cub"
) -> Table:
    """Return the images of a split; ids are those of its lists.

    Args:
        root: The folder with `metadata` and `dataset`, such as a checkout of wsolevaluation; or
            CUB_200_2011, or the folder that it is in.
        collection: "CUB", "OpenImages" or "ILSVRC", the folder in both.
        split: "test", or "val" for the images that choose hyperparameters, which the published
            tree doesn't have.
        name: The name of the data set.

    Raises:
        BenchError: For a missing folder or list, and a line that can't be read.
    """
    top = existing_folder(Path(root), LAYOUT)
    published = next(filter(_is_published, (top, top / PUBLISHED)), None)
    if published is not None and collection == "CUB":
        folder = existing_folder(published / "images", LAYOUT)
        lists = _read_published(published, split)
    else:
        folder = existing_folder(top / "dataset" / collection, LAYOUT)
        lists = _read(existing_folder(top / "metadata" / collection / split, LAYOUT))
    ids = tuple(sorted(ids_of(lists.labels, f"{collection}'s class_labels.txt")))
    folder_by_label = {
        lists.labels[image]: os.path.basename(os.path.dirname(image)) for image in ids
    }
    count = max(folder_by_label) + 1
    listed = {str(label): str(label) for label in range(count)}
    # ILSVRC's images are all in one folder.
    if len({*folder_by_label.values()}) == count:
        folders = [folder_by_label[label] for label in range(count)]
        listed = {folder: PREFIX.sub("", folder).replace("_", " ") for folder in folders}
    without = [image for image in ids if not lists.boxes.get(image) and not lists.masks.get(image)]
    notes: tuple[str, ...] = ()
    if without:
        notes = (
            f"{len(without)} of {plural(len(ids), 'image')} {verb(len(without), 'has', 'have')} "
            f"no localization, such as {without[0]}",
        )
    labels = [(lists.labels[image],) for image in ids]
    return Table(__name__, name, ids, listed, labels, partial(_row, folder, lists, ids), notes)


def _read(folder: Path) -> Lists:
    """Read the lists of a split."""
    try:
        labels = {image: int(label) for image, label in _rows(folder / "class_labels.txt")}
        sizes: dict[str, Size] = {}
        if os.path.isfile(folder / "image_sizes.txt"):
            for image, width, height in _rows(folder / "image_sizes.txt"):
                sizes[image] = (int(width), int(height))
        boxes = defaultdict[str, list[Box]](list)
        masks = defaultdict[str, list[str]](list)
        ignored = defaultdict[str, list[str]](list)
        for image, *cells in _rows(folder / "localization.txt"):
            if len(cells) == BOX_CELLS - 1:
                x0, y0, x1, y1 = map(int, cells)
                boxes[image].append((x0, y0, x1 + 1, y1 + 1))
            elif cells and len(cells) < MASK_CELLS:
                masks[image].append(cells[0])
                ignored[image] += filter(None, cells[1:])
            else:
                line = ",".join([image, *cells])
                raise ValueError(f"{line!r} has {len(cells) + 1} cells")
    except ValueError as error:
        raise BenchError(
            f"A list in {as_text(folder)} can't be read: {error}; get it from wsolevaluation."
        ) from error
    return Lists(labels, sizes, dict(boxes), dict(masks), dict(ignored))


def _is_published(folder: Path) -> bool:
    """Return whether a folder is CUB-200-2011 as it is published."""
    return os.path.isfile(folder / "image_class_labels.txt")


def _read_published(folder: Path, split: str) -> Lists:
    """Read the lists of CUB-200-2011 as it is published.

    Its boxes are x, y, width and height. wsolevaluation's lists have x + width and y + height as
    the last pixels, and so do these.
    """
    if split not in SPLITS:
        raise unknown_name("split of CUB_200_2011", split, SPLITS)
    names, classes, parts, corners = (
        _by_number(folder / f"{name}.txt")
        for name in ("images", "image_class_labels", "train_test_split", "bounding_boxes")
    )
    labels: dict[str, int] = {}
    boxes: dict[str, list[Box]] = {}
    try:
        for number, name in names.items():
            if parts[number] != SPLITS[split]:
                continue
            labels[name] = int(classes[number]) - 1
            x, y, width, height = map(float, corners[number].split())
            boxes[name] = [(x, y, x + width + 1, y + height + 1)]
    except (ValueError, KeyError) as error:
        raise BenchError(
            f"A list in {as_text(folder)} has no value for image {number}: {reason_of(error)}; "
            "unpack CUB_200_2011.tgz again."
        ) from error
    return Lists(labels, {}, boxes, {}, {})


def _by_number(path: Path) -> dict[str, str]:
    """Return {number of an image: the rest of its line}."""
    rest_by_number: dict[str, str] = {}
    for line in lines_of(path, "The list"):
        number, _, rest = line.strip().partition(" ")
        rest_by_number[number] = rest.strip()
    return rest_by_number


def _rows(path: Path) -> list[list[str]]:
    """Return the cells of each line."""
    return list(csv.reader(lines_of(path, "The list")))


def _row(folder: Path, lists: Lists, ids: Sequence[str], index: int) -> Row:
    """Return the row of the image at this index."""
    image = ids[index]
    masks = [folder / name for name in lists.masks.get(image, ())]
    ignored = [folder / name for name in lists.ignored.get(image, ())]

    def annotation(size: Size) -> Note:
        label = lists.labels[image]
        expected = lists.sizes.get(image, size)
        if expected != size:
            problem = f"the lists are for {expected} pixels (width, height), the image has {size}"
            return Note(label, problems=(problem,))
        objects: list[tuple[int, Box]] = []
        problems: list[str] = []
        for box in lists.boxes.get(image, ()):
            part, problem = clip_to_image(box, size)
            if part is not None:
                objects.append((label, part))
            if problem:
                problems.append(f"the box {[*box]} {problem}")
        mask = None
        if masks:
            try:
                mask = _mask(label, _union(masks, size), _union(ignored, size))
            except BadImage as bad:
                problems.append(str(bad))
        return Note(label, tuple(objects), tuple(problems), mask)

    return Row(
        (listed_file(folder, as_name(image)), *masks, *ignored),
        annotation,
        facts=lambda: f"{lists.boxes.get(image)} {lists.sizes.get(image)} {lists.masks.get(image)}",
    )


def _mask(label: int, region: NDArray[np.bool_], ignored: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the class index per pixel of an object's region, or BACKGROUND or NO_VERDICT."""
    return np.where(region, label, np.where(ignored, NO_VERDICT, BACKGROUND))


def _union(paths: Sequence[Path], size: Size) -> NDArray[np.bool_]:
    """Return the pixels (h, w) that any of the pictures has above 0, at the size of the image.

    Raises:
        BadImage: If a picture can't be read.
    """
    union = np.zeros(size[::-1], dtype=bool)
    for path in paths:
        with open_image(path, f"the mask {as_text(path.name)}") as picture:
            scaled = picture.convert("L").resize((size[0], size[1]), Image.Resampling.NEAREST)
            union |= np.array(scaled) > 0
    return union
