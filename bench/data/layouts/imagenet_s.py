"""ImageNet-S (Gao et al., arXiv:2106.03149): ImageNet images with a mask of their classes.

The set has no boxes of its own. A mask is an RGB PNG of the image's size. red + 256 green is the
set's own number of a class, from 1 in the order of the sorted synset ids of its categories (50, 300
or 919 of them). 0 is anything else, and 1000 is ignored.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from axiom_bench.data.base import BACKGROUND
from axiom_bench.data.formats.annotation_file import read_mask
from axiom_bench.data.formats.files import as_name, as_text, folder_entries, listed_file
from axiom_bench.data.formats.shapes import boxes_of
from axiom_bench.data.layouts.classes import Classes, class_list, index_of_classes
from axiom_bench.data.layouts.imagenet import images_of_classes, labels_of, names_by_synset
from axiom_bench.data.layouts.table import Labels, Note, Row, Size, Table
from axiom_bench.data.layouts.trees import existing_folder, image_files
from axiom_bench.errors import BenchError, plural
from axiom_bench.kinds import File, Name

SIZES = (50, 300, 919)
IGNORED = 1000
MASK = "mask"
LAYOUT = (
    "the ImageNet-S layout <root>/<split>/<synset>/*.JPEG and "
    "<root>/<split>-segmentation/<synset>/*.png, where root is ImageNetS50, ImageNetS300 or "
    "ImageNetS919"
)


def imagenet_s(
    root: File | Path,
    split: Name = "validation",
    classes: Classes | None = None,
    categories: Classes | None = None,
    boxes: Name | None = MASK,
    name: Name = "imagenet_s",
) -> Table:
    """Return the images of a split.

    Ids are paths below the split, "n01443537/ILSVRC2012_val_00000236.JPEG".

    Args:
        root: The folder of the data set.
        split: The split.
        classes: Synset ids in the order of the model's classes, see `names_by_synset`.
        categories: The set's own synset ids, whose sorted order numbers the masks (a list or a
            file); None for the folders of the split, which must then be all of them.
        boxes: "mask" for one box around all pixels of each class in the mask; None for no boxes.
        name: The name of the data set.

    Raises:
        BenchError: For a wrong setting or a missing folder, or if no image is of the classes.
    """
    if boxes not in (MASK, None):
        raise BenchError(f"data.boxes must be mask or null for ImageNet-S, not {boxes!r}.")
    top = existing_folder(Path(root), LAYOUT)
    folder = existing_folder(top / split, LAYOUT)
    masks = existing_folder(top / f"{split}-segmentation", LAYOUT)
    names = names_by_synset([top], classes)
    index = index_of_classes(names)
    folders = [as_text(name) for name, is_folder in folder_entries(folder) if is_folder]
    if not categories and len(folders) not in SIZES:
        raise BenchError(
            f"{folder} has {plural(len(folders), 'class folder')}, and ImageNet-S has 50, 300 or "
            "919 classes, so the masks' numbers aren't known; set data.categories to the list of "
            "its synset ids (ImageNetS_categories_im919.txt)."
        )
    # A mask's number n is the n-th synset id of the set, in sorted order; 0 is the background.
    synset_ids = sorted(class_list(categories) if categories else folders)
    class_indices = [index.get(synset, BACKGROUND) for synset in synset_ids]
    class_of_value = np.array([BACKGROUND, *class_indices])
    images, other_files = image_files(folder)
    synset_of = {path: path.partition("/")[0] for path in images if "/" in path}
    ids = images_of_classes(synset_of, index, folder, LAYOUT)
    labels = labels_of(ids, synset_of, index)
    row = partial(_row, folder, masks, ids, labels, class_of_value, boxes)
    notes = (f"{as_text(folder)}: {other_files}",) if other_files else ()
    return Table(__name__, name, ids, names, labels, row, notes)


def _row(
    folder: Path,
    masks: Path,
    ids: Sequence[str],
    labels: Sequence[Labels],
    class_of_value: NDArray[np.int64],
    boxes: str | None,
    index: int,
) -> Row:
    """Return the row of the image at this index.

    `class_of_value`, (n + 1,), has the class index of each value of a mask, BACKGROUND for no class
    of the model.
    """
    name = as_name(ids[index])
    mask_file = (masks / name).with_suffix(".png")

    def annotation(size: Size) -> Note:
        mask, problems = read_mask(mask_file, size, _numbers, class_of_value, IGNORED)
        objects = () if mask is None or boxes is None else boxes_of(mask)
        return Note(labels[index][0], objects, problems, mask)

    files = (listed_file(folder, name), mask_file)
    return Row(files, annotation, facts=lambda: f"{class_of_value.tolist()} {boxes}")


def _numbers(picture: Image.Image) -> NDArray[np.int64]:
    """Return a mask's numbers, (h, w): red + 256 green."""
    colours = np.asarray(picture.convert("RGB")).astype(np.int64)
    return colours[..., 0] + 256 * colours[..., 1]
