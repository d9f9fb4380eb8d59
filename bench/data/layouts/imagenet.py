"""ImageNet (ILSVRC2012) unpacked: val/<synset>/*.JPEG, or a flat val/ with a file of labels, and boxes as XML.

The boxes are 0-based and inclusive: in the validation files xmin reaches 0 and xmax the width minus 1, never the width,
and the challenge's own evaluation measures a side as xmax - xmin + 1. So x1 = xmax + 1 here.
"""

from __future__ import annotations

import csv
import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from posixpath import basename, splitext
from typing import Annotated

from PIL import Image

from axiom_bench.data.base import DataSet, Sample
from axiom_bench.data.formats.annotation_file import read_objects
from axiom_bench.data.formats.files import as_name, as_text, why
from axiom_bench.data.layouts.bases import ImageFiles, StoredImages, existing, image_files
from axiom_bench.data.layouts.classes import Classes, class_list, imagenet_synsets
from axiom_bench.data.layouts.label_files import meant, read_list
from axiom_bench.errors import BenchError
from axiom_bench.kinds import File, Name, whole

LAYOUT = (
    "the ImageNet layout <root>/<split>/<synset>/*.JPEG, or <root>/<split>/*.JPEG with a file of labels, "
    "and boxes in <root>/Annotations/CLS-LOC/<split>/*.xml"
)
VALIDATION = 50_000  # images, ILSVRC2012_val_00000001 and so on
MAPPING = "LOC_synset_mapping.txt"
ARCHIVE = "ILSVRC2012_img_{split}.tar"
UNPACK = (
    "python -c \"from torchvision.datasets import ImageNet; ImageNet('{root}', split='{split}')\", with "
    "ILSVRC2012_img_{split}.tar and ILSVRC2012_devkit_t12.tar.gz in {root}"
)
TREES = ("", "ILSVRC/Data/CLS-LOC", "Data/CLS-LOC")  # from a root to the splits: plain, and Kaggle's
WNIDS, WORDS = "wnids.txt", "words.txt"  # the classes of Tiny ImageNet, and the names of these and others
LABELS = (  # the usual files
    *("LOC_{split}_solution.csv", "{split}.txt", "{split}/{split}_annotations.txt"),  # Kaggle's, plain, Tiny ImageNet's
    *("{split}.csv", "labels.csv", "labels.txt", "imagenet_2012_validation_synset_labels.txt", "synset_labels.txt"),
)
CHECKED = 64  # images whose labels are compared with their boxes


class LabelledImages(StoredImages):
    """Images of one synset each, which `_take` chooses."""

    _synset: dict[str, str]

    def labels(self, index: int) -> tuple[int, ...]:
        return (self._index[self._synset[self.ids[index]]],)

    def _take(self, synset_of: dict[str, str], is_subset: bool, place: Path, hint: str) -> None:
        """Sets `ids` to the images of `synset_of`, {image: synset id}, that are of the classes, ascending.

        is_subset: whether images of other synsets are left out; else they raise BenchError. place: where the images
        are. hint: ends the error where none is of the classes.
        """
        others = [image for image, synset in synset_of.items() if synset not in self._index]
        if others and not is_subset:
            raise BenchError(
                f"{place / others[0]} is of class {synset_of[others[0]]!r}, which the class list lacks; "
                "add it there, or set data.classes."
            )
        self._synset = synset_of
        self.ids = tuple(sorted(image for image, synset in synset_of.items() if synset in self._index))
        if not self.ids:
            raise BenchError(f"There are no images of the configured classes in {place}; {hint}.")


class ImageNet(LabelledImages, ImageFiles):
    """ids: the path below the split, "n01440764/ILSVRC2012_val_00000293.JPEG", or the file name where it is flat.
    The settings are those of `imagenet`."""

    def __init__(
        self, root: File | Path, split: Name, classes: Classes | None, labels: File | None, name: Name
    ) -> None:
        self.root, self.name = existing(Path(root), LAYOUT), name
        self.folder = folder_of(self.root, split)
        places, below = places_of(self.root, self.folder), f"Annotations/CLS-LOC/{self.folder.name}"
        self.boxes = next((place / below for place in places if os.path.isdir(place / below)), self.root / below)
        self._set_classes(synsets(places, classes))
        paths, others = image_files(self.folder)
        self.notes = (f"{as_text(self.folder)}: {others}",) if others else ()
        flat = [path for path in paths if "/" not in path or path.startswith("images/")]  # Tiny ImageNet's
        folders = {path: path.partition("/")[0] for path in paths if "/" in path and not path.startswith("images/")}
        listed = dict(zip(self.classes, self.class_names, strict=True))
        meanings = meant([*folders.values()], listed, as_text(self.folder), classes is None)
        synset = dict(zip(folders, meanings, strict=True))
        if flat:
            of_flat, notes = flat_labels(places, labels, flat, listed, self.folder.name)
            synset, self.notes = synset | of_flat, (*self.notes, *notes)
        self._take(synset, classes is not None, self.folder, f"expected {LAYOUT}")
        self._check_boxes(flat)

    def _check_boxes(self, flat: Sequence[str]) -> None:
        """Raises BenchError where most labels that a file gives are of none of the image's boxes."""
        compared, wrong, of_file = 0, list[int](), {*flat}
        indices = [index for index, image in enumerate(self.ids) if image in of_file]
        for index in indices[:: 1 + len(indices) // CHECKED]:
            of_boxes = {label for label, _ in read_objects(self.xml(index), self._index, 0)[0]}
            compared += bool(of_boxes)
            wrong += [index] if of_boxes.isdisjoint(self.labels(index)) and of_boxes else []
        if len(wrong) > compared / 2:
            image, boxes = self.ids[wrong[0]], read_objects(self.xml(wrong[0]), self._index, 0)[0]
            raise BenchError(
                f"{len(wrong)} of {compared} labels name no class of the image's boxes, as {image}: it is labelled "
                f"{self._synset[image]}, its boxes are {self.classes[boxes[0][0]]}; set data.labels to the list of "
                "these images, or data.classes to the classes in the order of its indices."
            )

    def annotate(self, index: int, image: Image.Image, size: tuple[int, int]) -> Sample:
        objects, problems = read_objects(self.xml(index), self._index, 0, size)
        return replace(super().annotate(index, image, size), objects=objects, problems=problems)

    def keep_first(self, count: int) -> None:
        """Keep the images of `first_by_hash`. Raises BenchError if any of them is missing."""
        listed = set(first_by_hash(count))
        self.ids = tuple(image for image in self.ids if Path(image).stem in listed)
        if missing := listed - {Path(image).stem for image in self.ids}:
            raise BenchError(
                f"{len(missing):,} of the {count:,} validation images that data.first={count} chooses aren't in "
                f"{self.folder}, as {min(missing)}.JPEG; get them from ILSVRC2012's {VALIDATION:,} validation images."
            )

    def annotation_paths(self, index: int) -> tuple[Path]:
        """Validation boxes lie flat, training boxes in a folder for each synset."""
        relative = f"{splitext(as_name(self.ids[index]))[0]}.xml"
        nested = self.boxes / relative
        return (nested if os.path.isfile(nested) else self.boxes / basename(relative),)

    def xml(self, index: int) -> Path:
        return self.annotation_paths(index)[0]


def imagenet(
    root: File | Path,
    split: Name = "val",
    classes: Classes | None = None,
    labels: File | None = None,
    name: Name = "imagenet",
    first: Annotated[int, whole(1, "a number of images", VALIDATION)] | None = None,
) -> DataSet:
    """Return ImageNet as it lies below the root, in a folder <root>/<split>.

    classes: synset ids in the order of the model's classes (a list or a file), which also picks the images: those of
    other synsets are left out. None: the standard order, see `synsets`. labels: the flat layout's file of labels; None:
    see `flat_labels`. first: only so many of the validation images, see `first_by_hash`; they must be there.
    Raises BenchError for a root without this folder, with the command that unpacks the official archive if it is there,
    and for files that can't be read.
    """
    archive = Path(root, ARCHIVE.format(split=split))
    if os.path.isfile(archive) and not any(os.path.isdir(Path(root, tree, split)) for tree in TREES):
        command = UNPACK.format(root=root, split=split)
        raise BenchError(f"The images of {archive} aren't unpacked. Unpack them once: {command}.")
    data = ImageNet(root, split, classes, labels, name)
    if first is not None:
        data.keep_first(first)
    return data


def first_by_hash(count: int) -> list[str]:
    """The names of so many validation images, without suffix: those whose SHA-256 is lowest, whichever images are at
    hand. A smaller count's are among a larger one's."""
    names = (f"ILSVRC2012_val_{number:08d}" for number in range(1, VALIDATION + 1))
    return sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())[:count]


def folder_of(root: Path, split: str) -> Path:
    """The folder of a split's images, in a plain root or Kaggle's. Raises BenchError where there is none."""
    folders = [root / tree / split for tree in TREES]
    return existing(next((folder for folder in folders if os.path.isdir(folder)), folders[0]), LAYOUT)


def places_of(root: Path, folder: Path) -> list[Path]:
    """Where files beside the images are looked for: the root, and the folders above the images', in Kaggle's tree up to
    the one that holds all of it."""
    places = [root, Path(os.path.abspath(folder)).parent]
    while places[-1].name in ("CLS-LOC", "Data", "ILSVRC"):
        places.append(places[-1].parent)
    return places


def flat_labels(
    places: Sequence[Path], name: str | None, images: Sequence[str], classes: Mapping[str, str], split: str
) -> tuple[dict[str, str], list[str]]:
    """({image file: synset id}, what a reader must know). name: the file of labels below one of the places, or None for
    the first usual one that exists. classes: {synset id: name}.

    Raises BenchError where there is no such file, a line can't be read, or an image has no label.
    """
    candidates = [name] if name else [each.format(split=split) for each in LABELS]
    folders = [*places, *([Path()] if name else [])]
    path = next((place / each for each in candidates for place in folders if os.path.isfile(place / each)), None)
    if path is None:
        raise BenchError(
            f"The images in {places[0]} lie in no class folders, and there is no file of labels; expected one of "
            f"{', '.join(candidates)} below it, or data.labels naming a file of lines 'image label'. The official "
            f"archive unpacks into class folders by {UNPACK.format(root=places[0], split=split)}."
        )
    try:
        synset_of, notes = read_list(path, images, classes)
    except (ValueError, IndexError, KeyError, AttributeError, csv.Error) as error:
        raise BenchError(f"The file of labels {as_text(path)} can't be read: {why(error)}.") from error
    if missing := [image for image in images if image not in synset_of]:
        raise BenchError(
            f"{path} has no label for {missing[0]} ({len(missing)} images in all); add them to it, or set data.labels."
        )
    return synset_of, notes


def synsets(places: Sequence[Path], classes: Classes | None) -> dict[str, str]:
    """Return {synset id: name} in the order of class indices.

    The order is that of `classes`, of LOC_synset_mapping.txt or Tiny ImageNet's list in one of the places, or that of
    ILSVRC2012's 1,000 classes. Networks are trained with their ids in ascending order.
    Never from the folders that happen to exist: a subset of ImageNet would number its classes anew.
    """
    if classes is not None:
        return class_list(classes)
    if mapping := next((place / MAPPING for place in places if os.path.isfile(place / MAPPING)), None):
        return class_list(str(mapping))
    if listed := next((place / WNIDS for place in places if os.path.isfile(place / WNIDS)), None):
        words = listed.with_name(WORDS)
        names = class_list(str(words)) if os.path.isfile(words) else {}
        return {synset: names.get(synset, synset) for synset in sorted(class_list(str(listed)))}
    return {synset: synset for synset in imagenet_synsets()}
