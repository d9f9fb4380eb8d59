"""ImageNet (ILSVRC2012) unpacked: val/<synset>/*.JPEG, or a flat val/ with a file of labels, and
boxes as XML.

The boxes are 0-based and inclusive: in the validation files xmin reaches 0 and xmax the width minus
1, never the width, and the challenge's own evaluation measures a side as xmax - xmin + 1. So x1 =
xmax + 1 here.
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
from axiom_bench.data.formats.files import as_name, as_text, listed_file, why
from axiom_bench.data.layouts.classes import (
    Classes,
    ClassIndex,
    class_list,
    imagenet_synsets,
    index_of_classes,
)
from axiom_bench.data.layouts.label_files import meant, read_list
from axiom_bench.data.layouts.table import Labels, Note, Row, Size, Table
from axiom_bench.data.layouts.trees import existing, image_files
from axiom_bench.errors import BenchError
from axiom_bench.kinds import File, Name, whole

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
TREES = (
    "",
    "ILSVRC/Data/CLS-LOC",
    "Data/CLS-LOC",
)  # from a root to the splits: plain, and Kaggle's
WNIDS, WORDS = (
    "wnids.txt",
    "words.txt",
)  # the classes of Tiny ImageNet, and the names of these and others
LABELS = (  # the usual files
    *(
        "LOC_{split}_solution.csv",
        "{split}.txt",
        "{split}/{split}_annotations.txt",
    ),  # Kaggle's, plain, Tiny ImageNet's
    *(
        "{split}.csv",
        "labels.csv",
        "labels.txt",
        "imagenet_2012_validation_synset_labels.txt",
        "synset_labels.txt",
    ),
)
CHECKED = 64  # images whose labels are compared with their boxes


def imagenet(
    root: File | Path,
    split: Name = "val",
    classes: Classes | None = None,
    labels: File | None = None,
    name: Name = "imagenet",
    first: Annotated[int, whole(1, "a number of images", VALIDATION)] | None = None,
) -> Table:
    """Return ImageNet as it lies below the root, in a folder <root>/<split>.

    ids: the path below the split, "n01440764/ILSVRC2012_val_00000293.JPEG", or the file name where
    it is flat. classes: synset ids in the order of the model's classes (a list or a file), which
    also picks the images: those of other synsets are left out. None: the standard order, see
    `synsets`. labels: the flat layout's file of labels; None: see `flat_labels`. first: only so
    many of the validation images, see `first_by_hash`; they must be there. Raises BenchError for a
    root without this folder, with the command that unpacks the official archive if it is there, and
    for files that can't be read.
    """
    archive = Path(root, ARCHIVE.format(split=split))
    if os.path.isfile(archive) and not any(
        os.path.isdir(Path(root, tree, split)) for tree in TREES
    ):
        command = UNPACK.format(root=root, split=split)
        raise BenchError(f"The images of {archive} aren't unpacked. Unpack them once: {command}.")
    top = existing(Path(root), LAYOUT)
    folder = folder_of(top, split)
    places = places_of(top, folder)
    below = f"Annotations/CLS-LOC/{folder.name}"
    boxes = next((place / below for place in places if os.path.isdir(place / below)), top / below)
    names = synsets(places, classes)
    index = index_of_classes(names)
    paths, not_read = image_files(folder)
    notes = [f"{as_text(folder)}: {not_read}"] if not_read else []
    flat = [
        path for path in paths if "/" not in path or path.startswith("images/")
    ]  # Tiny ImageNet's
    folders = {
        path: path.partition("/")[0]
        for path in paths
        if "/" in path and not path.startswith("images/")
    }
    meanings = meant([*folders.values()], names, as_text(folder), classes is None)
    synset_of = dict(zip(folders, meanings, strict=True))
    if flat:
        of_flat, more = flat_labels(places, labels, flat, names, folder.name)
        synset_of |= of_flat
        notes += more
    others = [image for image, synset in synset_of.items() if synset not in index]
    if others and classes is None:
        raise BenchError(
            f"{folder / others[0]} is of class {synset_of[others[0]]!r}, which the class list "
            "lacks; add it there, or set data.classes."
        )
    ids = images_of_classes(synset_of, index, folder, LAYOUT)
    is_flat = {*flat}
    _check_boxes([image for image in ids if image in is_flat], synset_of, boxes, index)
    if first is not None:
        ids = _first_images(ids, first, folder)
    of_images = labels_of(ids, synset_of, index)
    row = partial(_row, folder, boxes, ids, of_images, index)
    return Table(__name__, name, ids, names, of_images, row, notes=tuple(notes))


def images_of_classes(
    synset_of: Mapping[str, str], index: ClassIndex, folder: Path, layout: str
) -> tuple[str, ...]:
    """Return the images of {image: synset id} that are of the classes {synset id: class index},
    ascending.

    Raises BenchError, with the folder of the images and the expected layout, if none is.
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
    """Raise BenchError if most of the images' labels, which a file gives, are of none of the
    image's boxes.
    """
    compared = 0
    wrong: list[tuple[str, int]] = []  # image, and the class of its first box
    for image in ids[:: 1 + len(ids) // CHECKED]:
        of_boxes = [
            label for label, _ in read_objects(_boxes_file(boxes, as_name(image)), index, 0)[0]
        ]
        if of_boxes:
            compared += 1
            if index[synset_of[image]] not in of_boxes:
                wrong.append((image, of_boxes[0]))
    if len(wrong) > compared / 2:
        image, label = wrong[0]
        of_box = next(synset for synset, place in index.items() if place == label)
        raise BenchError(
            f"{len(wrong)} of {compared} labels name no class of the image's boxes, as {image}: "
            f"it is labelled {synset_of[image]}, its boxes are {of_box}; set data.labels to the "
            "list of these images, or data.classes to the classes in the order of its indices."
        )


def _first_images(ids: Sequence[str], count: int, folder: Path) -> tuple[str, ...]:
    """Return the images of `first_by_hash`. Raises BenchError if any of them is missing."""
    listed = set(first_by_hash(count))
    chosen = tuple(image for image in ids if Path(image).stem in listed)
    if missing := listed - {Path(image).stem for image in chosen}:
        raise BenchError(
            f"{len(missing):,} of the {count:,} validation images that data.first={count} chooses "
            f"aren't in {folder}, as {min(missing)}.JPEG; get them from ILSVRC2012's "
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
    name = as_name(ids[index])
    boxes_file = _boxes_file(boxes, name)

    def annotation(size: Size) -> Note:
        return Note(labels[index][0], *read_objects(boxes_file, class_index, 0, size))

    return Row((listed_file(folder, name), boxes_file), annotation)


def _boxes_file(boxes: Path, name: str) -> Path:
    """Return the file of an image's boxes. Those of validation lie flat, those of training in a
    folder per synset.
    """
    relative = f"{splitext(name)[0]}.xml"
    nested = boxes / relative
    return nested if os.path.isfile(nested) else boxes / basename(relative)


def first_by_hash(count: int) -> list[str]:
    """The names of so many validation images, without suffix: those whose SHA-256 is lowest,
    whichever images are at hand. A smaller count's are among a larger one's.
    """
    names = (f"ILSVRC2012_val_{number:08d}" for number in range(1, VALIDATION + 1))
    return sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())[:count]


def folder_of(root: Path, split: str) -> Path:
    """The folder of a split's images, in a plain root or Kaggle's. Raises BenchError where there is
    none.
    """
    folders = [root / tree / split for tree in TREES]
    return existing(
        next((folder for folder in folders if os.path.isdir(folder)), folders[0]), LAYOUT
    )


def places_of(root: Path, folder: Path) -> list[Path]:
    """Where files beside the images are looked for: the root, and the folders above the images', in
    Kaggle's tree up to the one that holds all of it.
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
    """({image file: synset id}, what a reader must know). name: the file of labels below one of the
    places, or None for the first usual one that exists. classes: {synset id: name}.

    Raises BenchError where there is no such file, a line can't be read, or an image has no label.
    """
    candidates = [name] if name else [each.format(split=split) for each in LABELS]
    folders = [*places, *([Path()] if name else [])]
    path = _first_file(folders, candidates)
    if path is None:
        raise BenchError(
            f"The images in {places[0]} lie in no class folders, and there is no file of labels; "
            f"expected one of {', '.join(candidates)} below it, or data.labels naming a file of "
            "lines 'image label'. The official archive unpacks into class folders by "
            f"{UNPACK.format(root=places[0], split=split)}."
        )
    try:
        synset_of, notes = read_list(path, images, classes)
    except (ValueError, IndexError, KeyError, AttributeError, csv.Error) as error:
        raise BenchError(
            f"The file of labels {as_text(path)} can't be read: {why(error)}."
        ) from error
    if missing := [image for image in images if image not in synset_of]:
        raise BenchError(
            f"{path} has no label for {missing[0]} ({len(missing)} images in all); add them to "
            "it, or set data.labels."
        )
    return synset_of, notes


def _first_file(places: Sequence[Path], names: Sequence[str]) -> Path | None:
    """Return the first of the names that is in one of the places, None if there is none."""
    return next(
        (place / name for name in names for place in places if os.path.isfile(place / name)), None
    )


def synsets(places: Sequence[Path], classes: Classes | None) -> dict[str, str]:
    """Return {synset id: name} in the order of class indices.

    The order is that of `classes`, of LOC_synset_mapping.txt or Tiny ImageNet's list in one of the
    places, or that of ILSVRC2012's 1,000 classes. Networks are trained with their ids in ascending
    order. Never from the folders that happen to exist: a subset of ImageNet would number its
    classes anew.
    """
    if classes is not None:
        return class_list(classes)
    if mapping := _first_file(places, [MAPPING]):
        return class_list(str(mapping))
    if listed := _first_file(places, [WNIDS]):
        words = listed.with_name(WORDS)
        names = class_list(str(words)) if os.path.isfile(words) else {}
        return {synset: names.get(synset, synset) for synset in sorted(class_list(str(listed)))}
    return {synset: synset for synset in imagenet_synsets()}
