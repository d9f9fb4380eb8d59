"""FunnyBirds (Hesse, Schaub-Meyer and Roth, ICCV 2023, arXiv:2308.06248): drawn birds, and the same without parts.

<root>/dataset_<split>.json lists the images in the order of their numbers, each with its `class_idx`. Image 34 of class
12 is <split>/12/000034.png. <split>_part_map has the same path, where each part has its colour, and
<split>_interventions/12/000034/body_beak_foot_tail_wing.png is the bird without its eyes: it names the parts left.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from axiom_bench.cutting.interventions import GROUND
from axiom_bench.data.base import BadImage, StoredPart
from axiom_bench.data.formats.decoding import open_rgb
from axiom_bench.data.formats.files import content_of, why
from axiom_bench.data.layouts.bases import ImageFiles, existing
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
LAYOUT = "the FunnyBirds layout <root>/<split>/<class>/*.png, beside <split>_part_map, <split>_interventions and *.json"


class FunnyBirds(ImageFiles):
    """ids: the path below the split, "12/000034.png". classes: "0", "1", ...: networks are trained on their numbers.

    interventions: the parts that the part map shows, each with the image without it; and what no version is without,
    the body and the background, as a ground that counts for nothing. There are no boxes and masks: the part map doesn't
    show the body. Raises BenchError for a missing folder, and a list that can't be read.
    """

    def __init__(self, root: File | Path, split: Name = "test", name: Name = "funnybirds") -> None:
        self.root, self.name = existing(Path(root), LAYOUT), name
        self.folder = existing(self.root / split, LAYOUT)
        self.part_maps = self.root / f"{split}_part_map"
        self.versions_folder = self.root / f"{split}_interventions"
        self._set_classes({str(number): str(number) for number in range(len(_read(self.root / "classes.json")))})
        labels = [entry.get("class_idx") for entry in _read(self.root / f"dataset_{split}.json")]
        if any(label not in range(len(self.classes)) for label in labels):
            raise BenchError(f"{self.root / f'dataset_{split}.json'} has an image without a class_idx of classes.json.")
        self.ids = tuple(sorted(f"{label}/{number:06d}.png" for number, label in enumerate(labels)))

    def annotation_paths(self, index: int) -> tuple[Path, ...]:
        """The part map, the image without each of the parts, and without all."""
        versions = self.versions_folder / self.ids[index].removesuffix(".png")
        names = [sorted(COLOURS.keys() - {part}) for part in COLOURS]
        return (
            self.part_maps / self.ids[index],
            *(versions / f"{'_'.join([BODY, *left])}.png" for left in names),
            versions / f"{BODY}_.png",
        )

    def labels(self, index: int) -> tuple[int, ...]:
        return (int(self.ids[index].partition("/")[0]),)

    def interventions(self, index: int) -> tuple[StoredPart, ...]:
        """Raises BadImage where a file is missing, or no image of the same size."""
        image_id, (label,), (part_map, *versions) = self.ids[index], self.labels(index), self.annotation_paths(index)
        image = open_rgb(self.path(index), image_id)
        pictures = [open_rgb(path, image_id) for path in (part_map, *versions)]
        for path, picture in zip((part_map, *versions), pictures, strict=True):
            if picture.size != image.size:
                raise BadImage(image_id, f"{path} has {picture.size} pixels (width, height), the image {image.size}")
        colours, *without, bare = pictures
        pixels, parts = np.asarray(colours), []
        for (name, of_part), version in zip(COLOURS.items(), without, strict=True):
            mask = np.any([(pixels == colour).all(axis=2) for colour in of_part], axis=0)
            if mask.any():
                parts.append(StoredPart(name, label, mask, (version,)))
        ground = ~np.any([part.mask for part in parts], axis=0) if parts else np.ones(pixels.shape[:2], dtype=bool)
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
