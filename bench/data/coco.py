"""COCO by its annotation JSON: boxes, masks and crowds; polygons and run lengths become pixels by pycocotools alone.

A box is x, y, width, height in pixels from 0, so x1 = x + width, exclusive. A crowd (`iscrowd`) is a region of many
objects in one box: it is no object here, the mask has no verdict on its pixels but for those of objects, and
`Sample.crowd` names it. An annotation with no or an empty `segmentation` keeps its box, and its image has no mask:
pixels left out of one would pass for background.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from axiom_bench.data.base import Box, Sample, largest
from axiom_bench.data.batch import BACKGROUND, NO_VERDICT
from axiom_bench.data.file_hashes import FileHashes
from axiom_bench.data.files import ImageFiles, existing
from axiom_bench.errors import BenchError
from axiom_bench.kinds import File, Name

LAYOUT = "the COCO layout <root>/<split>/*.jpg with <root>/annotations/instances_<split>.json"
Entry = Mapping[str, Any]
Region = NDArray[np.bool_]  # (h, w)


class Coco(ImageFiles):
    """ids: the file names in the JSON. classes: its categories by ascending id, from 0. label: the largest box's class.

    annotations: the JSON below the root; None: annotations/instances_<split>.json. Raises BenchError where a file isn't
    there or is of another form, and where pycocotools isn't installed.
    """

    def __init__(
        self, root: File | Path, split: Name = "val2017", annotations: File | None = None, name: Name = "coco"
    ) -> None:
        self.root, self.name = existing(Path(root), LAYOUT), name
        self.folder = existing(self.root / split, LAYOUT)
        self.rasteriser = _pycocotools()
        path = self.root / (annotations or f"annotations/instances_{split}.json")
        images, self._objects, categories = _read(path)
        self.classes = tuple(categories.values())
        self._index_of_category = {category: index for index, category in enumerate(categories)}
        self._entries = {str(entry["file_name"]): entry for entry in images}
        self.ids = tuple(sorted(self._entries))
        if not self.ids:
            raise BenchError(f"{path} names no images; expected {LAYOUT}.")

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "rasteriser": None}  # a module doesn't travel to other processes

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, rasteriser=_pycocotools())

    def path(self, index: int) -> Path:
        return self.folder / self.ids[index]

    def labels(self, index: int) -> tuple[int, ...]:
        objects = (entry for entry in self._of(index) if not entry.get("iscrowd"))
        labels = {self._index_of_category.get(entry.get("category_id"), -1) for entry in objects}
        return tuple(sorted(labels - {-1}))

    def fingerprint(self, index: int, hashes: FileHashes | None = None) -> str:
        entries = json.dumps([*self._of(index), list(self.classes)], sort_keys=True)
        return hashlib.sha256(f"{super().fingerprint(index, hashes)} {entries}".encode()).hexdigest()

    def annotate(self, index: int, image: Image.Image) -> Sample:
        image_id, entry = self.ids[index], self._entries[self.ids[index]]
        expected = (entry.get("width"), entry.get("height"))
        if expected != image.size:
            problem = (
                f"{image_id}: the annotations are for {expected} pixels (width, height), the image has {image.size}"
            )
            return Sample(image, image_id, problems=(problem,))
        objects: list[tuple[int, Box]] = []
        crowd: list[tuple[int, Box]] = []
        problems: list[str] = []
        regions: list[tuple[int, Region | None]] = []
        for annotation in self._of(index):
            try:
                label, box = self._index_of_category[annotation["category_id"]], _box(annotation["bbox"], image.size)
                verdict = NO_VERDICT if annotation.get("iscrowd") else label
                regions.append((verdict, self._pixels(annotation.get("segmentation"), image.size)))
            except (KeyError, TypeError, ValueError, IndexError) as error:
                problems.append(f"{image_id}: annotation {annotation.get('id')} is malformed: {error!r}")
                continue
            (crowd if annotation.get("iscrowd") else objects).append((label, box))
        mask = _mask(regions, image.size)
        return Sample(image, image_id, largest(tuple(objects)), tuple(objects), mask, tuple(problems), tuple(crowd))

    def _of(self, index: int) -> list[Entry]:
        return self._objects.get(self._entries[self.ids[index]]["id"], [])

    def _pixels(self, segmentation: Any, size: tuple[int, int]) -> Region | None:
        """Polygons [[x, y, ...], ...], or run lengths {counts, size}, compressed or not; None where there are none."""
        if not segmentation:
            return None
        width, height = size
        if isinstance(segmentation, list):
            runs = self.rasteriser.merge(self.rasteriser.frPyObjects(segmentation, height, width))
        elif isinstance(segmentation["counts"], list):
            runs = self.rasteriser.frPyObjects(segmentation, height, width)
        else:
            runs = segmentation
        pixels = np.asarray(self.rasteriser.decode(runs), dtype=bool)
        if pixels.shape != (height, width):
            raise ValueError(f"a region of {pixels.shape} pixels (height, width) in an image of {(height, width)}")
        return pixels


def _pycocotools() -> ModuleType:
    try:
        from pycocotools import mask
    except ImportError as error:
        raise BenchError("COCO's regions need pycocotools: pip install 'axiom-bench[coco]'.") from error
    return mask


def _read(path: Path) -> tuple[list[Entry], dict[Any, list[Entry]], dict[Any, str]]:
    """(images, {image id: annotations}, {category id: name} ascending) of an annotation JSON."""
    if not path.is_file():
        raise BenchError(f"There is no annotation file {path}; expected {LAYOUT}, or data.annotations naming it.")
    try:
        content = json.loads(path.read_bytes())
        categories = {entry["id"]: str(entry["name"]) for entry in content["categories"]}
        by_image: dict[Any, list[Entry]] = defaultdict(list)
        for annotation in content["annotations"]:
            by_image[annotation["image_id"]].append(annotation)
        images: list[Entry] = [
            {**entry, "id": entry["id"], "file_name": entry["file_name"]} for entry in content["images"]
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise BenchError(
            f"{path} isn't COCO's form of instances ({error!r}); it must hold images, annotations and categories."
        ) from error
    return images, dict(by_image), dict(sorted(categories.items()))


def _box(values: Any, size: tuple[int, int]) -> Box:
    """x, y, width, height as x0, y0, x1, y1, clipped to the image. Raises ValueError for an empty one."""
    x, y, width, height = map(float, values)
    x0, y0, x1, y1 = max(x, 0.0), max(y, 0.0), min(x + width, float(size[0])), min(y + height, float(size[1]))
    if not (x0 < x1 and y0 < y1):
        raise ValueError(f"an empty box {values}")
    return x0, y0, x1, y1


def _mask(regions: list[tuple[int, Region | None]], size: tuple[int, int]) -> NDArray[np.int64] | None:
    """(h, w) class per pixel, or BACKGROUND or NO_VERDICT; of objects that overlap, the smaller lies on top, and a
    crowd lies below all of them. None where one has no region."""
    with_pixels = [(label, pixels) for label, pixels in regions if pixels is not None]
    if len(with_pixels) < len(regions):
        return None
    mask = np.full(size[::-1], BACKGROUND)
    for label, pixels in sorted(with_pixels, key=lambda region: (region[0] != NO_VERDICT, -int(region[1].sum()))):
        mask[pixels] = label
    return mask
