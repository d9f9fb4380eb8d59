"""ImageNet (ILSVRC2012) unpacked: val/<synset>/*.JPEG, or a flat val/ with a file of labels.

Boxes are XML files. They are 0-based and inclusive: in the validation files xmin reaches 0, and
xmax the width minus 1 but never the width. The challenge's own evaluation measures a side as
xmax - xmin + 1. So x1 = xmax + 1 here.
"""

from __future__ import annotations

import csv
import hashlib
import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from posixpath import basename, splitext
from typing import Annotated

from axiom_bench.data.formats.annotation_file import read_objects
from axiom_bench.data.formats.files import as_name, as_text, listed_file, reason_of
from axiom_bench.data.layouts.classes import (
    Classes,
    ClassIndex,
    class_list,
    imagenet_synsets,
    index_of_classes,
)
from axiom_bench.data.layouts.label_files import classes_of_labels, read_list
from axiom_bench.data.layouts.table import Labels, Note, Row, Size, Table
from axiom_bench.data.layouts.trees import existing_folder, image_files
from axiom_bench.errors import BenchError, plural, verb
from axiom_bench.kinds import File, Name, whole_number

LAYOUT = (
    "the ImageNet layout <root>/<split>/<synset>/*.JPEG, or <root>/<split>/*.JPEG with a file of "
    "labels, and boxes in <root>/Annotations/CLS-LOC/<split>/*.xml"
)
VALIDATION = 50_000  # images, ILSVRC2012_val_00000001 and so on
MAPPING = "LOC_synset_mapping.txt"
ARCHIVE = "ILSVRC2012_img_{split}.tar"
UNPACK = (
    "python -c \"from torchvision.datasets import ImageNet; ImageNet('{root}', "
    "split='{split}')\", with ILSVRC2012_img_{split}.tar and ILSVRC2012_devkit_t12.tar.gz in "
    "{root}"
)
TREES = ("", "ILSVRC/Data/CLS-LOC", "Data/CLS-LOC")  # from a root to the splits: plain, Kaggle's
WNIDS = "wnids.txt"  # the classes of Tiny ImageNet
WORDS = "words.txt"  # the names of synsets, those of Tiny ImageNet and others
LABELS = (  # the usual files of labels, in the order in which they are looked for
    "LOC_{split}_solution.csv",  # Kaggle's
    "{split}.txt",
    "{split}/{split}_annotations.txt",  # Tiny ImageNet's
    "{split}.csv",
    "labels.csv",
    "labels.txt",
    "imagenet_2012_validation_synset_labels.txt",
    "synset_labels.txt",
)
CHECKED = 64  # images whose labels are compared with their boxes


def imagenet(
    root: File | Path,
    split: Name = "val",
    classes: Classes | None = None,
    labels: File | None = None,
    name: Name = "imagenet",
    first: Annotated[int, whole_number(1, "a number of images", VALIDATION)] | None = None,
) -> Table:
    """Return the images of ImageNet in the folder <root>/<split>.

    Ids are paths below the split, "n01440764/ILSVRC2012_val_00000293.JPEG", or file names if the
    split is flat.

    Args:
        root: The folder of the data set.
        split: The split.
        classes: Synset ids in the order of the model's classes (a list or a file). Images of other
            synsets are left out. None for the standard order, see `names_by_synset`.
        labels: The flat layout's file of labels; None to look for one, see `flat_labels`.
        name: The name of the data set.
        first: Choose only so many of the validation images, see `first_by_hash`. All of them must
            exist.

    Raises:
        BenchError: If the root doesn't have this folder, with the command that unpacks the
            official archive if the root has that; and for files that can't be read.
    """
    archive = Path(root, ARCHIVE.format(split=split))
    is_unpacked = any(os.path.isdir(Path(root, tree, split)) for tree in TREES)
    if os.path.isfile(archive) and not is_unpacked:
        command = UNPACK.format(root=root, split=split)
        raise BenchError(f"The images of {archive} aren't unpacked. Unpack them once: {command}.")
    top = existing_folder(Path(root), LAYOUT)
    folder = split_folder(top, split)
    places = search_folders(top, folder)
    boxes_folder = f"Annotations/CLS-LOC/{folder.name}"
    boxes = next(
        (place / boxes_folder for place in places if os.path.isdir(place / boxes_folder)),
        top / boxes_folder,
    )
    names = names_by_synset(places, classes)
    index = index_of_classes(names)
    paths, not_read = image_files(folder)
    notes = [f"{as_text(folder)}: {not_read}"] if not_read else []
    # Tiny ImageNet's flat images lie in a folder of their own.
    flat = [path for path in paths if "/" not in path or path.startswith("images/")]
    is_flat = {*flat}
    folders = {path: path.partition("/")[0] for path in paths if path not in is_flat}
    meanings = classes_of_labels([*folders.values()], names, as_text(folder), classes is None)
    synset_of = dict(zip(folders, meanings, strict=True))
    if flat:
        flat_synset_of, label_notes = flat_labels(places, labels, flat, names, folder.name)
        synset_of |= flat_synset_of
        notes += label_notes
    other_images = [image for image, synset in synset_of.items() if synset not in index]
    if other_images and classes is None:
        raise BenchError(
            f"{folder / other_images[0]} is of class {synset_of[other_images[0]]!r}, which the "
            "class list lacks; add it there, or set data.classes."
        )
    ids = images_of_classes(synset_of, index, folder, LAYOUT)
    _check_boxes([image for image in ids if image in is_flat], synset_of, boxes, index)
    if first is not None:
        ids = _first_images(ids, first, folder)
    image_labels = labels_of(ids, synset_of, index)
    row = partial(_row, folder, boxes, ids, image_labels, index)
    return Table(__name__, name, ids, names, image_labels, row, notes=tuple(notes))


def images_of_classes(
    synset_of: Mapping[str, str], index: ClassIndex, folder: Path, layout: str
) -> tuple[str, ...]:
    """Return the ids of the images that are of the classes, ascending.

    Args:
        synset_of: {image: synset id}.
        index: {synset id: class index}.
        folder: The folder of the images, for errors.
        layout: The expected layout, for errors.

    Raises:
        BenchError: If there are none.
    """
    ids = tuple(sorted(image for image, synset in synset_of.items() if synset in index))
    if not ids:
        raise BenchError(
            f"There are no images of the configured classes in {folder}; expected {layout}."
        )
    return ids


def labels_of(
    ids: Sequence[str], synset_of: Mapping[str, str], index: ClassIndex
) -> tuple[Labels, ...]:
    """Return the labels of images: those of one synset share one tuple."""
    labels = {synset: (label,) for synset, label in index.items()}
    return tuple(labels[synset_of[image]] for image in ids)


def _check_boxes(
    ids: Sequence[str], synset_of: Mapping[str, str], boxes: Path, index: ClassIndex
) -> None:
    """Check that the labels, which a file gives, agree with the images' boxes.

    Raises:
        BenchError: If most of the compared images have no box of their label's class.
    """
    compared = 0
    contradictions: list[tuple[str, int]] = []  # image, and the class of its first box
    for image in ids[:: 1 + len(ids) // CHECKED]:
        objects, _ = read_objects(_boxes_file(boxes, as_name(image)), index, 0)
        box_classes = [label for label, _ in objects]
        if box_classes:
            compared += 1
            if index[synset_of[image]] not in box_classes:
                contradictions.append((image, box_classes[0]))
    if len(contradictions) > compared / 2:
        image, label = contradictions[0]
        box_synset = next(synset for synset, number in index.items() if number == label)
        raise BenchError(
            f"{len(contradictions)} of {plural(compared, 'label')} "
            f"{verb(len(contradictions), 'names', 'name')} no class of the image's boxes, as "
            f"{image}: it is labelled {synset_of[image]}, its boxes are {box_synset}; set "
            "data.labels to the list of these images, or data.classes to the classes in the order "
            "of its indices."
        )


def _first_images(ids: Sequence[str], count: int, folder: Path) -> tuple[str, ...]:
    """Return the images of `first_by_hash`.

    Raises:
        BenchError: If any of them is missing.
    """
    stems = set(first_by_hash(count))
    chosen = tuple(image for image in ids if Path(image).stem in stems)
    if missing := stems - {Path(image).stem for image in chosen}:
        raise BenchError(
            f"{len(missing):,} of the {count:,} validation images that data.first={count} chooses "
            f"aren't in {folder}, such as {min(missing)}.JPEG; get them from ILSVRC2012's "
            f"{VALIDATION:,} validation images."
        )
    return chosen


def _row(
    folder: Path,
    boxes: Path,
    ids: Sequence[str],
    labels: Sequence[Labels],
    class_index: ClassIndex,
    index: int,
) -> Row:
    """Return the row of the image at this index."""
    name = as_name(ids[index])
    boxes_file = _boxes_file(boxes, name)

    def annotation(size: Size) -> Note:
        return Note(labels[index][0], *read_objects(boxes_file, class_index, 0, size))

    return Row((listed_file(folder, name), boxes_file), annotation)


def _boxes_file(boxes: Path, name: str) -> Path:
    """Return the file of an image's boxes.

    The files of validation lie flat, those of training in a folder per synset.
    """
    relative = f"{splitext(name)[0]}.xml"
    nested = boxes / relative
    return nested if os.path.isfile(nested) else boxes / basename(relative)


def first_by_hash(count: int) -> list[str]:
    """Return the names of so many validation images, without suffix.

    They are those whose SHA-256 is lowest, whichever images exist here. The names for a smaller
    count are among those for a larger one.
    """
    names = (f"ILSVRC2012_val_{number:08d}" for number in range(1, VALIDATION + 1))
    return sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())[:count]


def split_folder(root: Path, split: str) -> Path:
    """Return the folder of a split's images, in a plain root or Kaggle's.

    Raises:
        BenchError: If there is none.
    """
    folders = [root / tree / split for tree in TREES]
    folder = next((folder for folder in folders if os.path.isdir(folder)), folders[0])
    return existing_folder(folder, LAYOUT)


def search_folders(root: Path, folder: Path) -> list[Path]:
    """Return the folders in which lists and boxes are looked for.

    They are the root, and the folders above the images' folder. In Kaggle's tree these go up to
    the one that holds all of it.
    """
    places = [root, Path(os.path.abspath(folder)).parent]
    while places[-1].name in ("CLS-LOC", "Data", "ILSVRC"):
        places.append(places[-1].parent)
    return places


def flat_labels(
    places: Sequence[Path],
    name: str | None,
    images: Sequence[str],
    classes: Mapping[str, str],
    split: str,
) -> tuple[dict[str, str], list[str]]:
    """Return the classes of images in no class folders, from a file of labels.

    Args:
        places: The folders in which the file is looked for.
        name: The file, below one of the places; None for the first usual one that exists.
        images: The image files.
        classes: {synset id: name}.
        split: The split, which is part of usual names.

    Returns:
        {image file: synset id}, and notes that a reader of the results needs.

    Raises:
        BenchError: If there is no such file, a line can't be read, or an image has no label.
    """
    candidates = [name] if name else [pattern.format(split=split) for pattern in LABELS]
    # A file that the user gives may also be a path of its own.
    folders = [*places, Path()] if name else places
    path = _first_file(folders, candidates)
    if path is None:
        raise BenchError(
            f"The images in {places[0]} aren't in class folders, and there is no file of labels; "
            f"expected one of {', '.join(candidates)} below it, or data.labels naming a file of "
            "lines 'image label'. The official archive unpacks into class folders by "
            f"{UNPACK.format(root=places[0], split=split)}."
        )
    try:
        synset_of, notes = read_list(path, images, classes)
    except (ValueError, IndexError, KeyError, AttributeError, csv.Error) as error:
        raise BenchError(
            f"The file of labels {as_text(path)} can't be read: {reason_of(error)}."
        ) from error
    if missing := [image for image in images if image not in synset_of]:
        raise BenchError(
            f"{path} has no label for {missing[0]} ({plural(len(missing), 'image')} in all); add "
            "them to it, or set data.labels."
        )
    return synset_of, notes


def _first_file(places: Sequence[Path], names: Sequence[str]) -> Path | None:
    """Return the first of the names that is in one of the places, None if there is none."""
    for name in names:
        for place in places:
            if os.path.isfile(place / name):
                return place / name
    return None


def names_by_synset(places: Sequence[Path], classes: Classes | None) -> dict[str, str]:
    """Return {synset id: name} in the order of class indices.

    The order is that of `classes`, otherwise that of LOC_synset_mapping.txt or Tiny ImageNet's list
    in one of the places, otherwise that of ILSVRC2012's 1,000 classes. Networks are trained with
    Tiny ImageNet's ids in ascending order. The folders that happen to exist never decide the order:
    a subset of ImageNet would number its classes differently.
    """
    if classes is not None:
        return class_list(classes)
    if mapping := _first_file(places, [MAPPING]):
        return class_list(str(mapping))
    if id_list := _first_file(places, [WNIDS]):
        words = id_list.with_name(WORDS)
        names = class_list(str(words)) if os.path.isfile(words) else {}
        return {synset: names.get(synset, synset) for synset in sorted(class_list(str(id_list)))}
    return {synset: synset for synset in imagenet_synsets()}
