"""ImageNet (ILSVRC2012) as it comes: val/<synset>/*.JPEG, or a flat val/ with a file of labels, and boxes as XML; or
the official archives.

The boxes are 0-based and inclusive: in the validation files xmin reaches 0 and xmax the width minus 1, never the width,
and the challenge's own evaluation measures a side as xmax - xmin + 1. So x1 = xmax + 1 here.
"""

from __future__ import annotations

import csv
import hashlib
import os
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from posixpath import basename, splitext
from typing import Annotated

from PIL import Image

from axiom_bench.data.base import DataSet, Files, Objects, Sample
from axiom_bench.data.formats.annotation_file import parse_objects, read_objects
from axiom_bench.data.formats.archive import Archive, read_compressed
from axiom_bench.data.formats.decoding import SUFFIXES
from axiom_bench.data.formats.files import as_name, as_text, lines_of, shown, why
from axiom_bench.data.layouts.bases import ImageFiles, LabelledImages, PackedImages, existing, image_files
from axiom_bench.data.layouts.classes import ARCHIVE, META, TRUTH, Classes, Devkit, synsets
from axiom_bench.errors import BenchError
from axiom_bench.kinds import File, Name, whole

LAYOUT = (
    "the ImageNet layout <root>/<split>/<synset>/*.JPEG, or <root>/<split>/*.JPEG with a file of labels, "
    "and boxes in <root>/Annotations/CLS-LOC/<split>/*.xml, or the official ILSVRC2012_img_val.tar with the devkit's "
    "tar.gz below <root>"
)
VALIDATION = 50_000  # images, ILSVRC2012_val_00000001 and so on
IMAGES = "ILSVRC2012_img_{split}.tar"
BOXES = ("ILSVRC2012_bbox_{split}_v3.tgz", "ILSVRC2012_bbox_{split}_v2.tgz")
FILES = f"{IMAGES.format(split='val')} and {ARCHIVE} (and {BOXES[0].format(split='val')} for boxes) below <root>"
LABELS = ("LOC_val_solution.csv", "val.txt", TRUTH, f"ILSVRC2012_devkit_t12/data/{TRUTH}", ARCHIVE)  # the usual files


class _WithBoxes(LabelledImages):
    """Images whose boxes a subclass gives."""

    @abstractmethod
    def objects(self, index: int, size: tuple[int, int]) -> tuple[Objects, tuple[str, ...]]:
        """(class and box of each object of an image of this size (width, height), problems)."""

    def annotate(self, index: int, image: Image.Image, size: tuple[int, int]) -> Sample:
        objects, problems = self.objects(index, size)
        return replace(super().annotate(index, image, size), objects=objects, problems=problems)

    def keep_first(self, count: int, place: Path) -> None:
        """Keeps the images of `first_by_hash`. place: where they are. Raises BenchError where any of them isn't."""
        listed = set(first_by_hash(count))
        self.ids = tuple(image for image in self.ids if Path(image).stem in listed)
        if missing := listed - {Path(image).stem for image in self.ids}:
            raise BenchError(
                f"{len(missing):,} of the {count:,} validation images that data.first={count} chooses aren't in "
                f"{place}, as {min(missing)}.JPEG; get them from ILSVRC2012's {VALIDATION:,} validation images."
            )


class ImageNet(_WithBoxes, ImageFiles):
    """ids: the path below the split, "n01440764/ILSVRC2012_val_00000293.JPEG", or the file name where it is flat.

    classes: synset ids in the order of the model's classes (a list or a file), which also picks the images: those of
    other synsets are left out. None: the standard order, from <root>/LOC_synset_mapping.txt.
    labels: the flat layout's file of labels; None looks for the usual names (see `flat_labels`).
    """

    def __init__(
        self, root: File | Path, split: Name, classes: Classes | None, labels: File | None, name: Name
    ) -> None:
        self.root, self.name = existing(Path(root), LAYOUT), name
        self.folder = existing(self.root / split, LAYOUT)
        self.boxes = self.root / "Annotations" / "CLS-LOC" / split
        self._set_classes(synsets(self.root, classes))
        paths = list(image_files(self.folder))
        synset = {path: path.partition("/")[0] for path in paths if "/" in path}
        flat = [path for path in paths if "/" not in path]
        if flat:
            synset |= flat_labels(self.root, labels, flat, self.classes)
        self._take(synset, classes is not None, self.folder, f"expected {LAYOUT}")

    def annotation_paths(self, index: int) -> tuple[Path]:
        """Validation boxes lie flat, training boxes in a folder for each synset."""
        relative = f"{splitext(as_name(self.ids[index]))[0]}.xml"
        nested = self.boxes / relative
        return (nested if os.path.isfile(nested) else self.boxes / basename(relative),)

    def objects(self, index: int, size: tuple[int, int]) -> tuple[Objects, tuple[str, ...]]:
        return read_objects(*self.annotation_paths(index), self._index, first_pixel=0, size=size)


class ImageNetArchives(_WithBoxes, PackedImages):
    """ids: the file names, "ILSVRC2012_val_00000001.JPEG". classes and labels: as in `ImageNet`.

    The images are read from their places in the tar; its index of members is built once. Boxes come from their tgz,
    if there is one, which is unpacked into memory (a compressed file can't be read from the middle).
    """

    threads_may_read = True

    def __init__(self, root: Path, split: str, classes: Classes | None, labels: str | None, name: str) -> None:
        self.root, self.name = root, name
        self.archive = Archive.of(root / IMAGES.format(split=split))
        images = sorted(file for file in self.archive.members if Path(file).suffix.lower() in SUFFIXES)
        if not images:
            member = next(iter(self.archive.members), "nothing")
            raise BenchError(f"{self.archive.path} holds no images but {member}; expected {FILES}.")
        self._set_classes(synsets(root, classes))
        synset = flat_labels(root, labels, images, self.classes)
        self._take(synset, classes is not None, self.archive.path, "see data.classes")
        paths = (root / name.format(split=split) for name in BOXES)
        self.boxes_file = next((path for path in paths if os.path.isfile(path)), None)

    def content(self, index: int) -> bytes:
        return self.archive.read(self.ids[index])

    def objects(self, index: int, size: tuple[int, int]) -> tuple[Objects, tuple[str, ...]]:
        (boxes,), file = self.annotation(index), f"{Path(self.ids[index]).stem}.xml"
        if boxes is None:
            return (), (f"there is no annotation {file} in {self.boxes_file}",)
        return parse_objects(boxes, file, self._index, first_pixel=0, size=size)

    def files(self, index: int) -> Files:
        return self.archive.path, self.boxes_file

    def annotation(self, index: int) -> tuple[bytes | None]:
        return (self._boxes.get(f"{Path(self.ids[index]).stem}.xml"),)

    @cached_property
    def _boxes(self) -> dict[str, bytes]:
        return {} if self.boxes_file is None else read_compressed(self.boxes_file, ".xml")


def imagenet(
    root: File | Path,
    split: Name = "val",
    classes: Classes | None = None,
    labels: File | None = None,
    name: Name = "imagenet",
    first: Annotated[int, whole(1, "a number of images", VALIDATION)] | None = None,
) -> DataSet:
    """ImageNet as it lies below the root: a folder <root>/<split>, or else the official tar of its images.

    first: only so many of the validation images, see `first_by_hash`; they must be there.
    Raises BenchError where there is neither, and for all that the two data sets raise.
    """
    folder, tar = Path(root, split), Path(root, IMAGES.format(split=split))
    data: ImageNet | ImageNetArchives
    if os.path.isfile(tar) and not os.path.isdir(folder):
        place, data = tar, ImageNetArchives(Path(root), split, classes, labels, name)
    else:
        place, data = folder, ImageNet(root, split, classes, labels, name)
    if first is not None:
        data.keep_first(first, place)
    return data


def first_by_hash(count: int) -> list[str]:
    """The names of so many validation images, without suffix: those whose SHA-256 is lowest, whichever images are at
    hand. A smaller count's are among a larger one's."""
    names = (f"ILSVRC2012_val_{number:08d}" for number in range(1, VALIDATION + 1))
    return sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())[:count]


def flat_labels(root: Path, name: str | None, images: Sequence[str], classes: Sequence[str]) -> dict[str, str]:
    """{image file: synset id}. name: the file of labels below the root, or None for the first usual one that exists:
    Kaggle's solution file, lines "image label", or the devkit's.

    Raises BenchError where there is no such file, a line can't be read, or an image has no label.
    """
    candidates = [name] if name else [*LABELS]
    path = next((root / candidate for candidate in candidates if os.path.isfile(root / candidate)), None)
    if path is None:
        raise BenchError(
            f"The images in {root} lie in no class folders, and there is no file of labels; expected one of "
            f"{', '.join(candidates)} below it, or data.labels naming a file of lines 'image label'."
        )
    try:
        if path.suffix == ".csv":  # Kaggle's: the first word of a PredictionString is the synset id, its boxes follow
            rows = csv.DictReader(lines_of(path, "The file of labels"))
            by_stem = _each_once((row["ImageId"], row["PredictionString"].split()[0]) for row in rows)
        elif path.name in (TRUTH, ARCHIVE):
            by_stem = _from_devkit(root, path, images)
        else:
            by_stem = _from_lines(path, classes)
    except (ValueError, IndexError, KeyError, AttributeError, csv.Error) as error:
        raise BenchError(f"The file of labels {as_text(path)} can't be read: {why(error)}.") from error
    missing = [image for image in images if Path(image).stem not in by_stem]
    if missing:
        raise BenchError(f"{path} has no label for {missing[0]} ({len(missing)} images in all).")
    return {image: by_stem[Path(image).stem] for image in images}


def _from_lines(path: Path, classes: Sequence[str]) -> dict[str, str]:
    """Lines "image label"; a label is a synset id, or a class index from 0 in the order of the classes."""
    words = [line.split() for line in lines_of(path, "The file of labels")]
    for line in words:
        if line[1].isdigit() and int(line[1]) >= len(classes):
            raise ValueError(f"class {line[1]} of {line[0]}, but there are {len(classes)} classes")
    return _each_once((Path(image).stem, classes[int(label)] if label.isdigit() else label) for image, label in words)


def _each_once(labels: Iterable[tuple[str, str]]) -> dict[str, str]:
    """{image: label}. Raises ValueError for an image with two."""
    by_image: dict[str, str] = {}
    for image, label in labels:
        if by_image.setdefault(as_text(image), label) != label:
            raise ValueError(f"{shown(image)} has two labels, {by_image[as_text(image)]!r} and {label!r}")
    return by_image


def _from_devkit(root: Path, path: Path, images: Sequence[str]) -> dict[str, str]:
    """The kit's numbers are not the usual class indices: its meta.mat says which synset each stands for."""
    kit = Devkit.find(root)
    if kit is None:
        raise BenchError(
            f"{path.name} numbers the classes in its own way: put the devkit's {META} beside it, in {root}."
        )
    if kit.truth is None:
        raise BenchError(f"{path} holds no {TRUTH}; it isn't the whole devkit.")
    return kit.labels([Path(image).stem for image in images])
