"""ImageNet (ILSVRC2012) as it comes: val/<synset>/*.JPEG, or a flat val/ with a file of labels, and boxes as XML.

The boxes are 0-based and inclusive: in the validation files xmin reaches 0 and xmax the width minus 1, never the width,
and the challenge's own evaluation measures a side as xmax - xmin + 1. So x1 = xmax + 1 here.
"""

from __future__ import annotations

import os
from pathlib import Path

from PIL import Image

from axiom_bench.data.annotation_file import read_objects
from axiom_bench.data.base import Sample
from axiom_bench.data.class_list import Classes, synsets
from axiom_bench.data.file_names import as_name
from axiom_bench.data.files import ImageFiles, existing, image_files
from axiom_bench.data.imagenet_labels import flat_labels, images_of_classes
from axiom_bench.errors import BenchError
from axiom_bench.kinds import File, Name

LAYOUT = (
    "the ImageNet layout <root>/<split>/<synset>/*.JPEG, or <root>/<split>/*.JPEG with a file of labels, "
    "and boxes in <root>/Annotations/CLS-LOC/<split>/*.xml, or the official ILSVRC2012_img_val.tar with the devkit's "
    "tar.gz below <root>"
)


class ImageNet(ImageFiles):
    """ids: the path below the split, "n01440764/ILSVRC2012_val_00000293.JPEG", or the file name where it is flat.

    classes: synset ids in the order of the model's classes (a list or a file), which also picks the images: those of
    other synsets are left out. None: the standard order, from <root>/LOC_synset_mapping.txt.
    labels: the flat layout's file of labels; None looks for the usual names (see `flat_labels`).
    """

    def __init__(
        self,
        root: File | Path,
        split: Name = "val",
        classes: Classes | None = None,
        labels: File | None = None,
        name: Name = "imagenet",
    ) -> None:
        self.root, self.name = existing(Path(root), LAYOUT), name
        self.folder = existing(self.root / split, LAYOUT)
        self.boxes = self.root / "Annotations" / "CLS-LOC" / split
        self._set_classes(synsets(self.root, classes))
        paths = list(image_files(self.folder))
        self._synset = {path: path.partition("/")[0] for path in paths if "/" in path}
        flat = [path for path in paths if "/" not in path]
        if flat:
            self._synset |= flat_labels(self.root, labels, flat, self.classes)
        self.ids = images_of_classes(self._synset, self._index, classes is not None, self.folder)
        if not self.ids:
            raise BenchError(f"There are no images of the configured classes in {self.folder}; expected {LAYOUT}.")

    def path(self, index: int) -> Path:
        return self.folder / as_name(self.ids[index])

    def annotation_paths(self, index: int) -> tuple[Path]:
        """Validation boxes lie flat, training boxes in a folder for each synset."""
        relative = Path(as_name(self.ids[index])).with_suffix(".xml")
        nested = self.boxes / relative
        return (nested if os.path.isfile(nested) else self.boxes / relative.name,)

    def labels(self, index: int) -> tuple[int, ...]:
        return (self._index[self._synset[self.ids[index]]],)

    def annotate(self, index: int, image: Image.Image, size: tuple[int, int]) -> Sample:
        (path,) = self.annotation_paths(index)
        objects, problems = read_objects(path, self._index, first_pixel=0, size=size)
        return Sample(image, self.ids[index], self.labels(index)[0], objects, problems=problems)
