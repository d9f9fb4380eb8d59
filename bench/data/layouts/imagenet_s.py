"""ImageNet-S (Gao et al., arXiv:2106.03149): ImageNet images with a mask of their classes, and no boxes of its own.

A mask is an RGB PNG of the image's size. red + 256 green is the set's own number of a class, from 1 in the order of the
sorted synset ids of its categories (50, 300 or 919 of them). 0 is anything else and 1000 is ignored.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import find_objects

from axiom_bench.data.base import BACKGROUND, Objects, Sample
from axiom_bench.data.formats.files import as_name, as_text, listed
from axiom_bench.data.layouts.bases import ImageFiles, existing, image_files, read_mask
from axiom_bench.data.layouts.classes import Classes, class_list
from axiom_bench.data.layouts.imagenet import LabelledImages, synsets
from axiom_bench.errors import BenchError
from axiom_bench.kinds import File, Name

SIZES = (50, 300, 919)
IGNORED = 1000
MASK = "mask"
LAYOUT = (
    "the ImageNet-S layout <root>/<split>/<synset>/*.JPEG and <root>/<split>-segmentation/<synset>/*.png, where root "
    "is ImageNetS50, ImageNetS300 or ImageNetS919"
)


class ImageNetS(LabelledImages, ImageFiles):
    """ids: the path below the split, "n01443537/ILSVRC2012_val_00000236.JPEG".

    classes: synset ids in the order of the model's classes, see `synsets`. categories: the set's own synset ids, whose
    sorted order numbers the masks (a list or a file); None: the folders of the split, which must then be all of them.
    boxes: "mask", for each class in the mask one box around all its pixels; None: no boxes. Raises BenchError.
    """

    def __init__(
        self,
        root: File | Path,
        split: Name = "validation",
        classes: Classes | None = None,
        categories: Classes | None = None,
        boxes: Name | None = MASK,
        name: Name = "imagenet_s",
    ) -> None:
        if boxes not in (MASK, None):
            raise BenchError(f"data.boxes must be mask or null for ImageNet-S, not {boxes!r}.")
        self.boxes = boxes
        self.root, self.name = existing(Path(root), LAYOUT), name
        self.folder = existing(self.root / split, LAYOUT)
        self.masks = existing(self.root / f"{split}-segmentation", LAYOUT)
        self._set_classes(synsets([self.root], classes))
        self._of_value = self._classes_of_values(categories)
        images, others = image_files(self.folder)
        self.notes = (f"{as_text(self.folder)}: {others}",) if others else ()
        synset = {path: path.partition("/")[0] for path in images if "/" in path}
        self._take(synset, True, self.folder, f"expected {LAYOUT}")

    def _classes_of_values(self, categories: Classes | None) -> NDArray[np.int64]:
        """(n + 1,) the class index of each value of a mask up to the last category, BACKGROUND for no class of the
        model."""
        folders = [as_text(name) for name, is_folder in listed(self.folder) if is_folder]
        if not categories and len(folders) not in SIZES:
            raise BenchError(
                f"{self.folder} has {len(folders)} class folders, which don't number the masks: ImageNet-S has 50, 300 "
                "or 919; set data.categories to the list of its synset ids (ImageNetS_categories_im919.txt)."
            )
        synset_ids = sorted(class_list(categories) if categories else folders)
        return np.array([BACKGROUND, *(self._index.get(synset, BACKGROUND) for synset in synset_ids)])

    def annotation_paths(self, index: int) -> tuple[Path]:
        return ((self.masks / as_name(self.ids[index])).with_suffix(".png"),)

    def meaning(self, index: int) -> str:
        """What the mask's values mean, and what boxes are made of it."""
        return f"{self._of_value.tolist()} {self.boxes}"

    def annotate(self, index: int, image: Image.Image, size: tuple[int, int]) -> Sample:
        mask, problems = read_mask(*self.annotation_paths(index), size, _numbers, self._of_value, IGNORED)
        objects = () if mask is None or self.boxes is None else boxes_of(mask)
        return Sample(image, self.ids[index], self.labels(index)[0], objects, mask, problems)


def _numbers(picture: Image.Image) -> NDArray[np.int64]:
    """(h, w) red + 256 green."""
    colours = np.asarray(picture.convert("RGB")).astype(np.int64)
    return colours[..., 0] + 256 * colours[..., 1]


def boxes_of(mask: NDArray[np.int64]) -> Objects:
    """One box around all pixels of each class, ascending; mask: (h, w), class index per pixel, negative for none."""
    places = find_objects(mask.clip(min=BACKGROUND) + 1)  # for each class up to the highest two slices, or None
    return tuple(
        (label, (place[1].start, place[0].start, place[1].stop, place[0].stop))
        for label, place in enumerate(places)
        if place
    )
