"""COCO by its annotation JSON: boxes, masks and crowds.

Only pycocotools turns polygons into pixels. A box is x, y, width, height in pixels from 0, so
x1 = x + width, exclusive. A crowd (`iscrowd`) is no object here: the mask has no verdict on its
pixels except for those of objects. If an annotation has no `segmentation` or is malformed, its
image has no mask: otherwise the pixels of that object would be background.
"""

from __future__ import annotations

import json
import math
import os
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from axiom_bench.data.base import NO_VERDICT, Box, clip_to_image, label_of_largest
from axiom_bench.data.formats.files import (
    as_name,
    as_text,
    comparable_name,
    content_of,
    ids_of,
    listed_file,
    reason_of,
    short_repr,
)
from axiom_bench.data.formats.shapes import Region, finite_floats, mask_of_regions
from axiom_bench.data.layouts.classes import Classes, class_indices, names_of_data
from axiom_bench.data.layouts.table import Labels, Note, Row, Size, Table
from axiom_bench.data.layouts.trees import existing_folder
from axiom_bench.errors import BenchError, plural, unknown_name, verb
from axiom_bench.kinds import File, Name

LAYOUT = "the COCO layout <root>/<split>/*.jpg with <root>/annotations/instances_<split>.json"
Entry = Mapping[str, Any]
Id = int | str
OTHER = -1  # the class index of a category that is no class of the network
SIDES = ("width", "height")
USED = ("id", "category_id", "bbox", "segmentation", "iscrowd")  # the keys used of an annotation
MIN_NUMBERS = 6  # of a polygon: three points
MAX_OUTSIDE = 1.0  # how far a polygon may go beyond the image, in the image's longer sides
MAX_DIGITS = 7  # of a run's length, 5 bits each
MAX_BYTES = 2**32  # of the annotation file; COCO's largest has 0.5 GB


def coco(
    root: File | Path,
    split: Name = "val2017",
    annotations: File | None = None,
    classes: Classes | None = None,
    name: Name = "coco",
) -> Table:
    """Return the images of an annotation file; ids are the file names in it.

    The label of an image is the class of its largest box.

    Args:
        root: The folder of the data set.
        split: The folder of the images below the root.
        annotations: The JSON below the root; None for annotations/instances_<split>.json.
        classes: The names of the network's outputs in their order (a list or a file). Only their
            categories count. None for all categories by ascending id.
        name: The name of the data set.

    Raises:
        BenchError: If a file doesn't exist or has another form, pycocotools isn't installed, or no
            category is one of the classes.
    """
    top = existing_folder(Path(root), LAYOUT)
    folder = existing_folder(top / split, LAYOUT)
    pycocotools()
    path = top / (annotations or f"annotations/instances_{split}.json")
    images, objects, categories = read_instances(path)
    names = tuple(categories.values())
    class_index = {category: index for index, category in enumerate(categories)}
    notes: tuple[str, ...] = ()
    if classes is not None:
        names = names_of_data(classes)
        network_index = class_indices(categories.values(), names, names)
        class_index = {
            number: network_index.get(category, OTHER) for number, category in categories.items()
        }
        other_categories = [
            category for category in categories.values() if category not in network_index
        ]
        if not network_index:
            raise unknown_name("category", names[0], other_categories, place=f"in {as_text(path)}")
        if other_categories:
            notes = (
                f"{plural(len(other_categories), 'category')} of the file, as "
                f"{other_categories[:1]}, {verb(len(other_categories), 'is', 'are')} no class of "
                "data.classes",
            )
    # Some tools write file names relative to the root.
    names_have_split = [
        comparable_name(str(entry["file_name"])).startswith(f"{split}/") for entry in images
    ]
    if images and all(names_have_split):
        folder = top
    image_ids = ids_of((entry["file_name"] for entry in images), as_text(path))
    entries = dict(zip(image_ids, images, strict=True))
    if not entries:
        raise BenchError(f"{as_text(path)} names no images; expected {LAYOUT}.")
    ids = tuple(sorted(entries))
    labels = tuple(
        _labels(objects.get(entries[image_id]["id"], []), class_index) for image_id in ids
    )
    row = partial(_row, folder, entries, objects, names, class_index, ids)
    return Table(__name__, name, ids, names, labels, row, notes)


def _labels(annotations: Sequence[Entry], class_index: Mapping[Id, int]) -> Labels:
    """Return the class indices of an image's objects, ascending."""
    categories = (entry.get("category_id") for entry in annotations if not entry.get("iscrowd"))
    labels = {
        class_index.get(category, OTHER) for category in categories if isinstance(category, Id)
    }
    return tuple(sorted(labels - {OTHER}))


def _row(
    folder: Path,
    images: Mapping[str, Entry],
    annotations_by_image: Mapping[Id, Sequence[Entry]],
    classes: Sequence[str],
    class_index: Mapping[Id, int],
    ids: Sequence[str],
    index: int,
) -> Row:
    """Return the row of the image at this index."""
    image_id = ids[index]
    image = images[image_id]
    annotations = annotations_by_image.get(image["id"], [])

    # The image's size is known only once the image is read, so its check waits until then.
    def annotation(size: Size) -> Note:
        expected = tuple(image[side] for side in SIDES)
        if None in expected or expected == size:
            return _note(image_id, annotations, class_index, size)
        problem = (
            f"{image_id}: the annotations are for {expected} pixels (width, height), the image has "
            f"{size}"
        )
        return Note(problems=(problem,))

    return Row(
        (listed_file(folder, as_name(image_id)),),
        annotation,
        facts=lambda: json.dumps([*map(_dumped, annotations), list(classes)]),
    )


def _note(
    image_id: str, annotations: Sequence[Entry], class_index: Mapping[Id, int], size: Size
) -> Note:
    """Return the annotation of an image of this size (width, height)."""
    objects: list[tuple[int, Box]] = []
    crowd: list[tuple[int, Box]] = []
    problems: list[str] = []
    has_mask = True
    regions: list[tuple[int, Region | None]] = []  # class index or NO_VERDICT, and pixels
    for annotation in annotations:
        try:
            label = class_index.get(annotation["category_id"])
            if label is None:
                raise ValueError(
                    f"its category {short_repr(annotation['category_id'])} isn't listed"
                )
            if label == OTHER:
                continue
            box, beyond = _box(annotation["bbox"], size)
            verdict = NO_VERDICT if annotation.get("iscrowd") else label
            regions.append((verdict, region_pixels(annotation.get("segmentation"), size)))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            number = annotation.get("id")
            description = short_repr(number) if isinstance(number, Id) else "without an id"
            problems.append(
                f"{image_id}: annotation {description} is malformed: {short_repr(error)}"
            )
            has_mask = False
            continue
        if beyond:
            problems.append(f"{image_id}: the box {short_repr(annotation['bbox'])} {beyond}")
        (crowd if annotation.get("iscrowd") else objects).append((label, box))
    return Note(
        label=label_of_largest(tuple(objects)),
        objects=tuple(objects),
        problems=tuple(problems),
        mask=_mask(regions, size) if has_mask else None,
        crowd=tuple(crowd),
    )


def read_instances(path: Path) -> tuple[list[Entry], dict[Id, list[Entry]], dict[Id, str]]:
    """Return images, {image id: annotations} and {category id: name} of an annotation JSON.

    The categories are in ascending order of their ids.

    Raises:
        BenchError: If there is no such file, or it has another form.
    """
    if not os.path.isfile(path):
        raise BenchError(
            f"There is no annotation file {as_text(path)}; expected {LAYOUT}, or data.annotations "
            "naming it."
        )
    try:
        content = json.loads(content_of(path, MAX_BYTES))
        categories = _by_id(content["categories"], "categories")
        names = {number: as_text(str(entry["name"])) for number, entry in categories.items()}
        images = _by_id([_image(entry) for entry in content["images"]], "images")
        by_image: dict[Id, list[Entry]] = defaultdict(list)
        for annotation in content["annotations"]:
            # The other keys would only take memory.
            fields = {key: annotation[key] for key in USED if key in annotation}
            by_image[annotation["image_id"]].append(fields)
        _check_ids([*images, *by_image], "images")
        if by_image and not by_image.keys() & images.keys():
            raise ValueError(
                f"no annotation is of an image of it, as that of the image {next(iter(by_image))!r}"
            )
    except RecursionError as error:
        raise BenchError(
            f"{as_text(path)} can't be read: its JSON is nested too deeply."
        ) from error
    except OSError as error:
        raise BenchError(f"{as_text(path)} can't be read: {reason_of(error)}.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise BenchError(
            f"{as_text(path)} isn't COCO's form of instances ({short_repr(error)}); it must hold "
            "images, annotations and categories."
        ) from error
    if corners := _corners(images, by_image):
        raise BenchError(
            f"The boxes of {as_text(path)} are corners x0, y0, x1, y1, such as {corners[0]}; "
            "COCO's are x, y, width, height."
        )
    return [*images.values()], dict(by_image), dict(sorted(names.items()))


def _corners(images: Mapping[Id, Entry], by_image: Mapping[Id, list[Entry]]) -> list[list[float]]:
    """Return the boxes that leave their images as x, y, width, height, if boxes are corners.

    They are corners if all of them are inside their images as x0, y0, x1, y1, and at least two of
    them and a quarter of all leave as x, y, width, height. Otherwise the result is [].
    """
    count = 0
    leaving = []
    for number, entries in by_image.items():
        sides = [images.get(number, {}).get(side) or math.inf for side in SIDES]
        for annotation in entries:
            try:
                box = finite_floats(annotation.get("bbox"))
                x, y, *ends = box
                count += 1
                are_inside = [
                    start < end <= side + 1
                    for start, end, side in zip((x, y), ends, sides, strict=True)
                ]
            except (TypeError, ValueError, OverflowError):  # reported when the image is read
                continue
            if not all(are_inside):
                return []
            if x + ends[0] > sides[0] + 1 or y + ends[1] > sides[1] + 1:
                leaving.append(box)
    return leaving if len(leaving) >= max(2, count / 4) else []


def _image(entry: Entry) -> Entry:
    """Return what is used of an image's entry; a side that is no number is None."""
    fields = {**entry}
    image = {"id": entry["id"], "file_name": entry["file_name"]}
    for side in SIDES:
        image[side] = fields[side] if isinstance(fields.get(side), int | float) else None
    return image


def _by_id(entries: list[Entry], what: str) -> dict[Id, Entry]:
    """Return {id: entry}. Raise ValueError if two entries have one id."""
    ((number, count),) = Counter(entry["id"] for entry in entries).most_common(1) or [(None, 0)]
    if count > 1:
        raise ValueError(f"two {what} have the id {number!r}")
    by_id = {entry["id"]: entry for entry in entries}
    _check_ids([*by_id], what)
    return by_id


def _check_ids(ids: list[Id], what: str) -> None:
    """Raise TypeError for ids that are neither all whole numbers nor all text.

    Otherwise 1 and "1" would be two things.
    """
    are_numbers = all(type(number) is int for number in ids)
    are_texts = all(type(number) is str for number in ids)
    if not are_numbers and not are_texts:
        raise TypeError(f"ids of {what} must be whole numbers, or all of them text")


def _dumped(annotation: Entry) -> str:
    """Return an annotation as text for the fingerprint."""
    try:
        return json.dumps(annotation, sort_keys=True)
    except RecursionError:
        # Nothing of such an annotation is used: no box and no region is nested.
        return "nested too deeply"


def _box(values: Sequence[float], size: Size) -> tuple[Box, str]:
    """Return x, y, width, height as x0, y0, x1, y1, cut to the image, and a problem.

    The problem is a sentence if much was cut off, otherwise "". Raise ValueError for a box that
    can't be used.
    """
    x, y, width, height = finite_floats(values)
    if max(values) <= 1 and any(value % 1 for value in values):
        raise ValueError(f"a box of {values}, which are parts of the image and must be pixels")
    box, problem = clip_to_image((x, y, x + width, y + height), size)
    if box is None:
        raise ValueError(f"the box {values} {problem}")
    return box, problem


def _mask(regions: list[tuple[int, Region | None]], size: Size) -> NDArray[np.int64] | None:
    """Return the mask of the regions, None if one of them is missing."""
    with_pixels = [(label, region) for label, region in regions if region is not None]
    return mask_of_regions(with_pixels, size) if len(with_pixels) == len(regions) else None


def pycocotools() -> ModuleType:
    """Return the module of pycocotools that turns polygons into pixels.

    Raises:
        BenchError: If pycocotools isn't installed.
    """
    try:
        from pycocotools import mask
    except ImportError as error:
        raise BenchError(
            "COCO's regions need pycocotools: pip install '.[coco]' in axiom-bench's checkout."
        ) from error
    module: ModuleType = mask
    return module


def region_pixels(segmentation: object, size: Size) -> Region | None:
    """Return the pixels of a region, (h, w); None if there are none.

    Args:
        segmentation: Polygons [[x, y, ...], ...], or run lengths {counts, size}, compressed or not.
        size: (width, height) of the image.

    Raises:
        ValueError: For a region that is malformed or of another size.
        TypeError: For a region of another type.
    """
    if segmentation is None or segmentation in ([], {}):
        return None
    width, height = size
    if isinstance(segmentation, list):
        rasteriser = pycocotools()
        polygons = [_polygon(numbers, max(size)) for numbers in segmentation]
        runs = rasteriser.merge(rasteriser.frPyObjects(polygons, height, width))
        return np.array(rasteriser.decode(runs), dtype=bool)
    if not isinstance(segmentation, dict):
        raise TypeError(
            f"a region is a list of polygons or run lengths, not {type(segmentation).__name__}"
        )
    if segmentation.get("size") != [height, width]:
        raise ValueError(
            f"a region of {segmentation.get('size')} pixels (height, width), not {[height, width]}"
        )
    counts = segmentation.get("counts")
    counts = _counts(counts) if isinstance(counts, str) else counts
    if not isinstance(counts, list) or not all(
        type(count) is int and 0 <= count <= height * width for count in counts
    ):
        raise ValueError("run lengths that are no list of numbers of pixels")
    if sum(counts) != height * width:
        raise ValueError(f"run lengths of {sum(counts)} pixels, not {height * width}")
    inside = np.arange(len(counts)) % 2 == 1  # outside and inside in turn, column by column
    return np.repeat(inside, counts).reshape((height, width), order="F")


def _polygon(numbers: object, side: int) -> list[float]:
    """Return a polygon's numbers. Raise ValueError if it isn't one near the image."""
    polygon = finite_floats(numbers)
    if len(polygon) < MIN_NUMBERS or len(polygon) % 2:
        raise ValueError(f"a polygon of {len(polygon)} numbers")
    if min(polygon) < -MAX_OUTSIDE * side or max(polygon) > (1 + MAX_OUTSIDE) * side:
        raise ValueError(
            f"a polygon far outside the image: {min(polygon):.4g} to {max(polygon):.4g}"
        )
    return polygon


def _counts(text: str) -> list[int]:
    """Return the run lengths of COCO's compressed text.

    Each character, from 48 on, has five bits of a number, the lowest first, and one bit that says
    whether more follow. The last five have a sign. From the fourth run on the number is the
    difference to the run before the last (`rleFrString` in pycocotools' maskApi.c).
    """
    counts: list[int] = []
    number = digits = 0
    for character in text.encode("latin-1"):
        value = character - 48
        if not 0 <= value < 64 or digits == MAX_DIGITS:
            raise ValueError("compressed run lengths are damaged")
        number |= (value & 31) << 5 * digits
        digits += 1
        if value & 32:
            continue
        if value & 16:
            number -= 1 << 5 * digits
        counts.append(number + (counts[-2] if len(counts) > 2 else 0))
        number = digits = 0
    if digits:
        raise ValueError("compressed run lengths end within a number")
    return counts
