"""FunnyBirds (Hesse, Schaub-Meyer and Roth, ICCV 2023, arXiv:2308.06248): drawn birds.

There are images of each bird without some of its parts. <root>/dataset_<split>.json lists the
images in the order of their numbers, each with its `class_idx`. Image 34 of class 12 is
<split>/12/000034.png. In <split>_part_map an image of the same path has a colour for each part.
<split>_interventions/12/000034/body_beak_foot_tail_wing.png is the bird without its eyes: the name
lists the parts that are left.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from axiom_bench.cutting.interventions import GROUND
from axiom_bench.data.base import BadImage, Files, StoredPart
from axiom_bench.data.formats.decoding import open_rgb
from axiom_bench.data.formats.files import content_of, reason_of
from axiom_bench.data.layouts.table import Row, Table
from axiom_bench.data.layouts.trees import existing_folder
from axiom_bench.errors import BenchError
from axiom_bench.kinds import File, Name

COLOURS = {  # of the parts in the part map; there are two eyes, feet and wings
    "beak": ((255, 255, 0),),
    "eye": ((255, 255, 253), (255, 255, 254)),
    "foot": ((255, 0, 1), (255, 0, 2)),
    "tail": ((0, 0, 255),),
    "wing": ((0, 255, 1), (0, 255, 2)),
}
BODY = "body"  # which every version shows
MAX_BYTES = 2**28  # of a list
LAYOUT = (
    "the FunnyBirds layout <root>/<split>/<class>/*.png, next to <split>_part_map, "
    "<split>_interventions and *.json"
)


def funnybirds(root: File | Path, split: Name = "test", name: Name = "funnybirds") -> Table:
    """Return the images of a split; ids are paths below it, "12/000034.png".

    Classes are "0", "1", ..., since networks are trained on their numbers. Interventions are the
    parts that the part map shows, each with the image without it. The body and the background,
    which every version shows, are a ground that isn't counted. There are no boxes and masks:
    the part map doesn't show the body.

    Args:
        root: The folder of the data set.
        split: The split.
        name: The name of the data set.

    Raises:
        BenchError: For a missing folder, and a list that can't be read.
    """
    top = existing_folder(Path(root), LAYOUT)
    existing_folder(top / split, LAYOUT)
    class_count = len(_read(top / "classes.json"))
    classes = tuple(map(str, range(class_count)))
    list_path = top / f"dataset_{split}.json"
    labels = [entry.get("class_idx") for entry in _read(list_path)]
    if any(label not in range(class_count) for label in labels):
        raise BenchError(f"{list_path} has an image without a class_idx of classes.json.")
    # An image's number is its place in the list, over all classes.
    ids = tuple(sorted(f"{label}/{number:06d}.png" for number, label in enumerate(labels)))
    image_labels = tuple((int(image_id.partition("/")[0]),) for image_id in ids)
    return Table(__name__, name, ids, classes, image_labels, row=partial(_row, top, split, ids))


def _row(root: Path, split: str, ids: Sequence[str], index: int) -> Row:
    """Return the row of the image at this index.

    Its files are the image, the part map, the image without each of the parts, and without all.
    """
    image_id = ids[index]
    versions = root / f"{split}_interventions" / image_id.removesuffix(".png")
    remaining_parts = [sorted(COLOURS.keys() - {part}) for part in COLOURS]
    files = (
        root / split / image_id,
        root / f"{split}_part_map" / image_id,
        *(versions / f"{'_'.join([BODY, *parts])}.png" for parts in remaining_parts),
        versions / f"{BODY}_.png",
    )
    return Row(files, interventions=partial(_parts, image_id, files))


def _parts(image_id: str, files: Files) -> tuple[StoredPart, ...]:
    """Read the parts of an image, and raise BadImage if a file is missing or of another size."""
    image, *pictures = (open_rgb(path, image_id) for path in files)
    for path, picture in zip(files[1:], pictures, strict=True):
        if picture.size != image.size:
            raise BadImage(
                image_id,
                f"{path} has {picture.size} pixels (width, height), the image {image.size}",
            )
    label = int(image_id.partition("/")[0])
    colours, *without, bare = pictures
    pixels = np.asarray(colours)
    parts: list[StoredPart] = []
    for (name, part_colours), version in zip(COLOURS.items(), without, strict=True):
        mask = np.any([(pixels == colour).all(axis=2) for colour in part_colours], axis=0)
        if mask.any():
            parts.append(StoredPart(name, label, mask, (version,)))
    ground = np.ones(pixels.shape[:2], dtype=bool)
    if parts:
        ground = ~np.any([part.mask for part in parts], axis=0)
    return (*parts, StoredPart(GROUND, None, ground, (image,), (bare,)))


def _read(path: Path) -> list[dict[str, object]]:
    """Read a list of objects, and raise BenchError for anything else."""
    try:
        content = json.loads(content_of(path, MAX_BYTES))
    except (OSError, ValueError) as error:
        raise BenchError(f"{path} can't be read: {reason_of(error)}; expected {LAYOUT}.") from error
    if not isinstance(content, list) or not all(isinstance(entry, dict) for entry in content):
        raise BenchError(f"{path} is no list of objects; expected {LAYOUT}.")
    return content
