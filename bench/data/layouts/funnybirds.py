"""FunnyBirds (Hesse, Schaub-Meyer and Roth, ICCV 2023, arXiv:2308.06248): drawn birds, and the same
without parts.

<root>/dataset_<split>.json lists the images in the order of their numbers, each with its
`class_idx`. Image 34 of class 12 is <split>/12/000034.png. <split>_part_map has the same path,
where each part has its colour, and <split>_interventions/12/000034/body_beak_foot_tail_wing.png is
the bird without its eyes: it names the parts left.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from axiom_bench.cutting.interventions import GROUND
from axiom_bench.data.base import BadImage, Files, StoredPart
from axiom_bench.data.formats.decoding import open_rgb
from axiom_bench.data.formats.files import content_of, why
from axiom_bench.data.layouts.table import Row, Table
from axiom_bench.data.layouts.trees import existing
from axiom_bench.errors import BenchError
from axiom_bench.kinds import File, Name

COLOURS = {  # of the part map; eyes, feet and wings are two
    "beak": ((255, 255, 0),),
    "eye": ((255, 255, 253), (255, 255, 254)),
    "foot": ((255, 0, 1), (255, 0, 2)),
    "tail": ((0, 0, 255),),
    "wing": ((0, 255, 1), (0, 255, 2)),
}
BODY = "body"  # what no version is without
MAX_BYTES = 2**28  # of a list
LAYOUT = (
    "the FunnyBirds layout <root>/<split>/<class>/*.png, beside <split>_part_map, "
    "<split>_interventions and *.json"
)


def funnybirds(root: File | Path, split: Name = "test", name: Name = "funnybirds") -> Table:
    """Return the images of a split; ids are paths below it, "12/000034.png".

    classes: "0", "1", ...: networks are trained on their numbers. interventions: the parts that the
    part map shows, each with the image without it; and what no version is without, the body and the
    background, as a ground that counts for nothing. There are no boxes and masks: the part map
    doesn't show the body. Raises BenchError for a missing folder, and a list that can't be read.
    """
    place = existing(Path(root), LAYOUT)
    existing(place / split, LAYOUT)
    classes = tuple(map(str, range(len(_read(place / "classes.json")))))
    labels = [entry.get("class_idx") for entry in _read(place / f"dataset_{split}.json")]
    if any(label not in range(len(classes)) for label in labels):
        raise BenchError(
            f"{place / f'dataset_{split}.json'} has an image without a class_idx of classes.json."
        )
    ids = tuple(sorted(f"{label}/{number:06d}.png" for number, label in enumerate(labels)))
    of_images = tuple((int(image_id.partition("/")[0]),) for image_id in ids)
    return Table(__name__, name, ids, classes, of_images, row=partial(_row, place, split, ids))


def _row(root: Path, split: str, ids: Sequence[str], index: int) -> Row:
    """Return the files of an image: itself, the part map, the image without each of the parts, and
    without all.
    """
    image_id = ids[index]
    versions = root / f"{split}_interventions" / image_id.removesuffix(".png")
    names = [sorted(COLOURS.keys() - {part}) for part in COLOURS]
    files = (
        root / split / image_id,
        root / f"{split}_part_map" / image_id,
        *(versions / f"{'_'.join([BODY, *left])}.png" for left in names),
        versions / f"{BODY}_.png",
    )
    return Row(files, interventions=partial(_parts, image_id, files))


def _parts(image_id: str, files: Files) -> tuple[StoredPart, ...]:
    """Raises BadImage where a file is missing, or no image of the same size."""
    image, *pictures = (open_rgb(path, image_id) for path in files)
    for path, picture in zip(files[1:], pictures, strict=True):
        if picture.size != image.size:
            raise BadImage(
                image_id,
                f"{path} has {picture.size} pixels (width, height), the image {image.size}",
            )
    label = int(image_id.partition("/")[0])
    colours, *without, bare = pictures
    pixels, parts = np.asarray(colours), list[StoredPart]()
    for (name, of_part), version in zip(COLOURS.items(), without, strict=True):
        mask = np.any([(pixels == colour).all(axis=2) for colour in of_part], axis=0)
        if mask.any():
            parts.append(StoredPart(name, label, mask, (version,)))
    ground = (
        ~np.any([part.mask for part in parts], axis=0)
        if parts
        else np.ones(pixels.shape[:2], dtype=bool)
    )
    return (*parts, StoredPart(GROUND, None, ground, (image,), (bare,)))


def _read(path: Path) -> list[dict[str, Any]]:
    """A list of objects. Raises BenchError where it is none."""
    try:
        content = json.loads(content_of(path, MAX_BYTES))
    except (OSError, ValueError) as error:
        raise BenchError(f"{path} can't be read: {why(error)}; expected {LAYOUT}.") from error
    if not isinstance(content, list) or not all(isinstance(entry, dict) for entry in content):
        raise BenchError(f"{path} is no list of objects; expected {LAYOUT}.")
    return content
