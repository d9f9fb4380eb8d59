"""ImageNet's validation set straight from the official tar files, nothing unpacked."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from PIL import Image

from axiom_bench.data.annotation_file import parse_objects
from axiom_bench.data.archive import Archive, read_compressed
from axiom_bench.data.base import DataSet, Sample
from axiom_bench.data.class_list import Classes, synsets
from axiom_bench.data.decoding import SUFFIXES, sha256_of
from axiom_bench.data.devkit import ARCHIVE
from axiom_bench.data.file_hashes import UNREADABLE, FileHashes
from axiom_bench.data.imagenet import ImageNet
from axiom_bench.data.imagenet_labels import flat_labels, images_of_classes
from axiom_bench.data.packed import PackedImages
from axiom_bench.errors import BenchError
from axiom_bench.kinds import File, Name

IMAGES = "ILSVRC2012_img_{split}.tar"
BOXES = ("ILSVRC2012_bbox_{split}_v3.tgz", "ILSVRC2012_bbox_{split}_v2.tgz")
FILES = f"{IMAGES.format(split='val')} and {ARCHIVE} (and {BOXES[0].format(split='val')} for boxes) below <root>"


class ImageNetArchives(PackedImages):
    """ids: the file names, "ILSVRC2012_val_00000001.JPEG". classes and labels: as in `ImageNet`.

    The images are read from their places in the tar; its index of members is built once. Boxes come from their tgz,
    if there is one, which is unpacked into memory (a compressed file can't be read from the middle).
    """

    threads_may_read = True

    def __init__(
        self,
        root: File | Path,
        split: Name = "val",
        classes: Classes | None = None,
        labels: File | None = None,
        name: Name = "imagenet",
    ) -> None:
        self.root, self.name = Path(root), name
        self.archive = Archive.of(self.root / IMAGES.format(split=split))
        images = sorted(file for file in self.archive.members if Path(file).suffix.lower() in SUFFIXES)
        if not images:
            member = next(iter(self.archive.members), "nothing")
            raise BenchError(f"{self.archive.path} holds no images but {member}; expected {FILES}.")
        self._set_classes(synsets(self.root, classes))
        self._synset = flat_labels(self.root, labels, images, self.classes)
        self.ids = images_of_classes(self._synset, self._index, classes is not None, self.archive.path)
        if not self.ids:
            raise BenchError(f"There are no images of the configured classes in {self.archive.path}; see data.classes.")
        paths = (self.root / name.format(split=split) for name in BOXES)
        self.boxes_file = next((path for path in paths if os.path.isfile(path)), None)

    def content(self, index: int) -> bytes:
        return self.archive.read(self.ids[index])

    def annotate(self, index: int, image: Image.Image, size: tuple[int, int]) -> Sample:
        image_id = self.ids[index]
        sample = Sample(image, image_id, self.labels(index)[0])
        boxes, file = self._boxes_of(index), f"{Path(image_id).stem}.xml"
        if boxes is None:
            return replace(sample, problems=(f"there is no annotation {file} in {self.boxes_file}",))
        objects, problems = parse_objects(boxes, file, self._index, first_pixel=0, size=size)
        return replace(sample, objects=objects, problems=problems)

    def labels(self, index: int) -> tuple[int, ...]:
        return (self._index[self._synset[self.ids[index]]],)

    def fingerprint(self, index: int, hashes: FileHashes | None = None) -> str:
        def read() -> str:
            boxes = self._boxes_of(index)
            try:
                return sha256_of((self.content(index), boxes))
            except OSError:
                return f"{UNREADABLE}{sha256_of((None, boxes))}"

        return read() if hashes is None else hashes.of((self.archive.path, self.boxes_file), read, self.ids[index])

    def _boxes_of(self, index: int) -> bytes | None:
        return self._boxes.get(f"{Path(self.ids[index]).stem}.xml")

    @cached_property
    def _boxes(self) -> dict[str, bytes]:
        return {} if self.boxes_file is None else read_compressed(self.boxes_file, ".xml")


def imagenet(
    root: File | Path,
    split: Name = "val",
    classes: Classes | None = None,
    labels: File | None = None,
    name: Name = "imagenet",
) -> DataSet:
    """ImageNet as it lies below the root: a folder <root>/<split>, or else the official tar of its images.

    Raises BenchError where there is neither, and for all that the two data sets raise.
    """
    folder, tar = Path(root, split), Path(root, IMAGES.format(split=split))
    if os.path.isfile(tar) and not os.path.isdir(folder):
        return ImageNetArchives(root, split, classes, labels, name)
    return ImageNet(root, split, classes, labels, name)
