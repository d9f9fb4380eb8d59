"""Pascal VOC as the devkit lays it out: JPEGImages, Annotations, SegmentationClass, ImageSets.

Boxes in the XML are 1-based and inclusive (xmin from 1, xmax up to the width), so x0 = xmin - 1 and
x1 = xmax here. Objects marked `difficult` count like any other, since the masks show them too;
difficult=False leaves their boxes out, as the devkit's evaluation does.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from axiom_bench.data.base import BACKGROUND, classes_of, label_of_largest
from axiom_bench.data.formats.annotation_file import read_mask, read_objects
from axiom_bench.data.formats.files import (
    as_name,
    as_text,
    comparable_name,
    ids_of,
    lines_of,
    listed_file,
    plain_name,
)
from axiom_bench.data.layouts.classes import Classes, ClassIndex, index_of_classes, names_of_data
from axiom_bench.data.layouts.label_files import without_ending
from axiom_bench.data.layouts.table import Labels, Note, Row, Size, Table
from axiom_bench.data.layouts.trees import existing_folder, image_files
from axiom_bench.errors import BenchError, plural, unknown_name, verb
from axiom_bench.kinds import File, Name

# fmt: off
# In the alphabetical order of the challenge: a mask's value is the position in it, from 1.
CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train",
    "tvmonitor",
)
# fmt: on
ABSENT = "-1"  # in the list of a class: the image has no object of it
BORDER = 255  # in a mask: around objects, and over those that the annotators left open
YEARS = (2012, 2007)  # in the order in which they are looked for
LAYOUT = (
    "the VOC layout <root>/JPEGImages, Annotations, SegmentationClass and "
    "ImageSets/{Main,Segmentation}/<split>.txt, or <root>/VOCdevkit/VOC2012 (or VOC2007) with "
    "these"
)


def voc(
    root: File | Path,
    split: Name = "val",
    image_set: Name = "Main",
    year: int | None = None,
    difficult: bool = True,
    classes: Classes | None = None,
    name: Name = "voc",
) -> Table:
    """Return the images of ImageSets/<image_set>/<split>.txt, whose names there are the ids.

    The label of an image is the class of its largest box.

    Args:
        root: The folder of the data set.
        split: The name of the list of images. VOC 2007 has a `test` split with annotations.
        image_set: "Main" for all images with boxes, or "Segmentation" for those with masks.
        year: The year below the root, 2012 or 2007; None for the one that exists, 2012 before
            2007.
        difficult: True if objects that are marked `difficult` count.
        classes: The names in the XML in the order of the network's outputs (a list or a file),
            which also numbers a mask's values from 1; None for VOC's twenty.
        name: The name of the data set.

    Raises:
        BenchError: For a missing folder or list, and a list without images.
    """
    folder = devkit(Path(root), year)
    list_path = folder / "ImageSets" / image_set / f"{split}.txt"
    if not os.path.isfile(list_path):
        raise BenchError(f"There is no list of images {as_text(list_path)}; expected {LAYOUT}.")
    words = [line.split() for line in lines_of(list_path, "The list of images")]
    # A class's own list, such as dog_val.txt, says of each image whether it shows the class.
    images_without = [name for name, *verdict in words if verdict[:1] == [ABSENT]]
    names = dict.fromkeys(
        without_ending(name) for name, *verdict in words if verdict[:1] != [ABSENT]
    )
    ids = tuple(sorted(ids_of(names, as_text(list_path))))
    notes: tuple[str, ...] = ()
    if images_without:
        notes = (
            f"{plural(len(images_without), 'image')} of {as_text(list_path)} "
            f"{verb(len(images_without), 'is', 'are')} left out: the list marks images with -1",
        )
    images, _ = image_files(folder / "JPEGImages")
    # Of several files with one name, the first one counts.
    files = {comparable_name(without_ending(file)): file for file in reversed(images)}
    if not ids:
        raise BenchError(f"The list of images {as_text(list_path)} is empty.")
    class_names = tuple(dict.fromkeys(CLASSES if classes is None else names_of_data(classes)))
    exact = index_of_classes(class_names)
    index = {plain_name(name): number for name, number in exact.items()} | exact
    row = partial(_row, folder, ids, files, index, difficult)
    return Table(__name__, name, ids, class_names, None, row, notes=notes)


def _row(
    root: Path,
    ids: Sequence[str],
    files: Mapping[str, str],
    class_index: ClassIndex,
    difficult: bool,
    index: int,
) -> Row:
    """Return the row of the image at this index."""
    name = as_name(ids[index])
    image = (
        root / "JPEGImages" / as_name(files.get(comparable_name(ids[index]), f"{ids[index]}.jpg"))
    )
    boxes_file = listed_file(root / "Annotations", f"{name}.xml")
    mask_file = listed_file(root / "SegmentationClass", f"{name}.png")

    def annotation(size: Size) -> Note:
        objects, problems = read_objects(boxes_file, class_index, 1, size, difficult)
        if not os.path.lexists(mask_file):  # most images have none
            return Note(label_of_largest(objects), objects, problems)
        # The numbers of a palette; 0 is the background.
        classes = np.arange(BACKGROUND, max(class_index.values()) + 1)
        mask, mask_problems = read_mask(mask_file, size, np.array, classes, BORDER)
        return Note(label_of_largest(objects), objects, problems + mask_problems, mask)

    def labels() -> Labels:
        objects, _ = read_objects(boxes_file, class_index, 1, difficult=difficult)
        return classes_of(None, objects)

    facts = None if difficult else lambda: "without difficult objects"
    return Row((image, boxes_file, mask_file), annotation, labels, facts)


def devkit(root: Path, year: int | None = None) -> Path:
    """Return the folder that holds JPEGImages: the root, or what the devkit's archive unpacks to.

    Raises:
        BenchError: For a missing folder, or one of another year.
    """
    if year is not None and year not in YEARS:
        raise unknown_name("year of VOC's two with twenty classes", str(year), map(str, YEARS))
    years = [year] if year else YEARS
    candidates = [folder / f"VOC{year}" for year in years for folder in (root, root / "VOCdevkit")]
    expected = candidates[0] if year else root
    if year is None or root.name == f"VOC{year}":
        candidates.insert(0, root)
    folder = next((path for path in candidates if os.path.isdir(path / "JPEGImages")), None)
    return folder or existing_folder(expected / "JPEGImages", LAYOUT)
