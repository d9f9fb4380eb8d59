"""A folder of images with the boxes and masks that are next to them, see `label_search`.

Boxes are in pixels of the upright image, since labelling tools apply EXIF orientations.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from axiom_bench.data.base import (
    BACKGROUND,
    NO_VERDICT,
    BadImage,
    Box,
    clip_to_image,
    label_of_largest,
)
from axiom_bench.data.formats import cvat
from axiom_bench.data.formats.annotation_file import read_mask
from axiom_bench.data.formats.decoding import open_image
from axiom_bench.data.formats.files import as_name, as_text, listed_file, short_repr
from axiom_bench.data.formats.shapes import (
    Drawing,
    Region,
    boxes_of,
    mask_of_regions,
    polygon_pixels,
)
from axiom_bench.data.layouts.classes import (
    Classes,
    ClassIndex,
    NetworkClasses,
    class_indices,
    names_of_data,
)
from axiom_bench.data.layouts.coco import coco
from axiom_bench.data.layouts.coco_folder import CocoFile, find_coco
from axiom_bench.data.layouts.label_search import (
    ANNOTATIONS,
    AUTO,
    COCO,
    CVAT,
    MASKS,
    NO_CLASSES,
    NONE,
    TOOLS,
    YOLO,
    ClassFile,
    FoundLabels,
    find_classes,
    find_labels,
    find_masks,
)
from axiom_bench.data.layouts.table import Labels, Note, Row, Size, Table
from axiom_bench.errors import BenchError, plural, unknown_name, verb

NUMBERED = (YOLO, MASKS)  # tools whose files have numbers of classes
BORDER = 255  # in a mask: neither object nor background, unless there is only one class
NO_OBJECTS = (
    "none of these files has an object; some tools write empty files instead of polygons or "
    "rotated boxes"
)
ORIENTATION = "EXIF orientations are applied, as labelling tools do"


@dataclass(frozen=True)
class FolderContent:
    """The content of a folder of images.

    Attributes:
        images: The images, without their masks.
        table: The images with their labels; None if there are no labels that can be used.
        notes: Sentences on labels that can't be used.
        problem: The reason why labels that were found can't be used; "" if there is none.
    """

    images: Sequence[str]
    table: Table | None = None
    notes: tuple[str, ...] = ()
    problem: str = ""


@dataclass(frozen=True)
class ClassMatch:
    """The classes of the labels among those of the network.

    Attributes:
        listed: {class: its readable name}, by class index.
        index: {class of the labels: class index}.
        problem: The reason why no class of the labels is one of the network's; "" if some are.
    """

    listed: Mapping[str, str]
    index: ClassIndex
    problem: str = ""


@dataclass(frozen=True)
class Source:
    """The files of the table's rows.

    Attributes:
        root: The folder of the images.
        images: The images.
        found: The label files.
        masks: {image: its mask}.
        class_index: {class as the label files name it: class index}.
        mask_classes: The class index of each number in a mask.
    """

    root: Path
    images: Sequence[str]
    found: FoundLabels
    masks: Mapping[str, Path]
    class_index: ClassIndex
    mask_classes: NDArray[np.int64]

    def labels(self, drawing: Drawing) -> Labels:
        """Return the class indices of an image's objects, ascending."""
        names = {shape.name for shape in drawing.shapes} & self.class_index.keys()
        return tuple(sorted({self.class_index[name] for name in names}))

    def mask(self, image: str, size: Size) -> tuple[NDArray[np.int64] | None, tuple[str, ...]]:
        """Return the mask of an image of this size, and problems, as `read_mask` does."""
        path = self.masks[image]
        is_binary = len(self.mask_classes) == 2
        numbers = _numbers_of_one_class if is_binary else np.array
        mask, problems = read_mask(path, size, numbers, self.mask_classes, BORDER)
        if mask is not None and {*np.unique(mask).tolist()} == {BACKGROUND, NO_VERDICT}:
            problems = (f"the mask {as_text(path.name)} has only 0 and 255, and no class's number",)
        return mask, problems


def folder_content(
    root: Path,
    images: Sequence[str],
    annotations: str,
    classes: Classes | None,
    network: Callable[[], NetworkClasses] | None,
    name: str,
) -> FolderContent:
    """Return the images of a folder, with the labels next to them if there are any.

    Args:
        root: The folder.
        images: The images below it, ascending.
        annotations: One of ANNOTATIONS.
        classes: The names of the network's outputs in their order (a list or a file); None for
            the network's own, or for those of the labels.
        network: Returns the classes of the network.
        name: The name of the data set.

    Raises:
        BenchError: If several tools fit, none fits although `annotations` names it, or the
            numbers of classes count from 1.
    """
    if annotations not in ANNOTATIONS:
        raise unknown_name("kind of annotations", annotations, ANNOTATIONS)
    if annotations == NONE:
        return FolderContent(images)
    masks, photographs = find_masks(root, images)
    found = find_labels(root, photographs, annotations)
    if found is None and annotations in (AUTO, MASKS) and masks:
        found = FoundLabels(MASKS, masks, classes=find_classes(root, masks.values(), MASKS))
    if found is not None:
        return _labelled_content(root, photographs, masks, found, classes, network, name)
    if annotations in (AUTO, COCO) and (file := find_coco(root, images)):
        return _coco_content(file, images, classes, network, name)
    if annotations != AUTO:
        raise BenchError(
            f"No image in {as_text(root)} has labels of data.annotations={annotations}; set "
            "data.annotations=auto to look for others."
        )
    return FolderContent(images)


def _coco_content(
    file: CocoFile,
    images: Sequence[str],
    classes: Classes | None,
    network: Callable[[], NetworkClasses] | None,
    name: str,
) -> FolderContent:
    """Return the images of COCO's annotation file, if its categories are classes."""
    match = _match(file.categories, classes, network)
    recognised = f"boxes from {as_text(file.path)} in COCO's form"
    if match.problem:
        unused = f"{recognised}; not used, so metrics that need them have no value: {match.problem}"
        return FolderContent(images, None, (unused,), match.problem)
    table = coco(file.folder, ".", str(file.path), [*match.listed.values()], name)
    table.notes = (recognised, *_class_notes(file.categories, match, is_sorted=False))
    return FolderContent(images, table)


def _labelled_content(
    root: Path,
    photographs: Sequence[str],
    masks: Mapping[str, Path],
    found: FoundLabels,
    classes: Classes | None,
    network: Callable[[], NetworkClasses] | None,
    name: str,
) -> FolderContent:
    """Return photographs with the labels that were found next to them."""
    drawings = {image: found.drawing(image) for image in found.files}
    used = {shape.name for drawing in drawings.values() for shape in drawing.shapes}
    has_objects = found.tool == MASKS or bool(used)
    used -= NO_CLASSES.keys()
    class_file = _used_class_file(found, used)
    names, name_by_key = _names_of_labels(found, used, class_file, classes)
    recognised = _recognised(root, found, masks, class_file)
    match = _match(names, classes, network)
    has_problems = any(drawing.problems for drawing in drawings.values())
    problem = match.problem if has_objects or has_problems else NO_OBJECTS
    if problem:
        unused = f"{recognised}; not used, so metrics that need them have no value: {problem}"
        return FolderContent(photographs, None, (unused,), problem)
    if found.tool == YOLO:
        _check_first_number(root, used, names)
    is_sorted = class_file is None and found.tool not in NUMBERED
    notes = [
        recognised,
        *_counts(root, found, drawings, photographs, name_by_key, class_file),
        *_class_notes(names, match, is_sorted),
    ]
    index = match.index
    source = Source(
        root=root,
        images=photographs,
        found=found,
        masks=masks,
        class_index={key: index[label] for key, label in name_by_key.items() if label in index},
        mask_classes=np.array([BACKGROUND, *(index.get(label, BACKGROUND) for label in names)]),
    )
    labels = None
    if found.tool != MASKS:
        labels = [source.labels(drawings.get(image, Drawing())) for image in photographs]
    table = Table(
        __name__,
        name,
        tuple(photographs),
        match.listed,
        labels,
        row=partial(_row, source),
        notes=tuple(notes),
        orientation=ORIENTATION,
    )
    return FolderContent(photographs, table)


def _used_class_file(found: FoundLabels, used: set[str]) -> ClassFile | None:
    """Return the file that lists the classes, unless it is a list of other classes."""
    class_file = found.classes
    if class_file is None or found.tool in NUMBERED or used & {*class_file.names}:
        return class_file
    return None


def _names_of_labels(
    found: FoundLabels,
    used: set[str],
    class_file: ClassFile | None,
    classes: Classes | None,
) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return the names of the labels' classes, and {class as the labels have it: its name}."""
    is_numbered = found.tool in NUMBERED
    if class_file is not None:
        names = class_file.names
    elif is_numbered:
        names = () if classes is None else tuple(names_of_data(classes))
    else:
        names = tuple(sorted(used))
    keys = map(str, range(len(names))) if is_numbered else names
    return names, dict(zip(keys, names, strict=True))


def _match(
    names: Sequence[str], classes: Classes | None, network: Callable[[], NetworkClasses] | None
) -> ClassMatch:
    """Find the classes of the labels among `classes`, or otherwise among the network's."""
    in_order = {name: index for index, name in enumerate(names)}
    if not names:
        problem = "no file has the names of their classes; list them in classes.txt or data.classes"
        return ClassMatch({}, {}, problem)
    if classes is not None:
        listed = {name: name for name in names_of_data(classes)}
        owner = "data.classes"
    else:
        network_classes = network and network()
        if not network_classes or (
            network_classes.names is None and network_classes.count == len(names)
        ):
            return ClassMatch({name: name for name in names}, in_order)
        listed = network_classes.names_by_class
        owner = f"the network's {network_classes.count} classes"
        if network_classes.names is None:
            owner += ", which have no names"
    index = class_indices(names, [*listed], [*listed.values()])
    problem = ""
    if not index:
        problem = (
            f"{names[0]!r} isn't one of {owner}; set data.classes to the labels' names in the "
            "order of the network's outputs"
        )
    return ClassMatch(listed, index, problem)


def _check_first_number(root: Path, used: Collection[str], names: Sequence[str]) -> None:
    """Check that YOLO's classes aren't numbered from 1.

    Raises:
        BenchError: If they are: all objects would have the class after their own.
    """
    if "0" not in used and str(len(names)) in used:
        raise BenchError(
            f"The label files of {as_text(root)} number {plural(len(names), 'class')} from 1, and "
            "YOLO's count from 0: subtract 1 from the first number of every line, or add a line "
            "before the first name."
        )


def _recognised(
    root: Path, found: FoundLabels, masks: Mapping[str, Path], class_file: ClassFile | None
) -> str:
    """Return the sentence on the labels that were found."""
    example = as_text(os.path.relpath(found.example, root))
    parts = []
    if found.tool == CVAT:
        parts.append(f"boxes of {plural(len(found.files), 'image')} from CVAT's {example}")
    elif found.tool != MASKS:
        title = TOOLS[found.tool].title
        parts.append(
            f"boxes of {plural(len(found.files), 'image')} from {title}, such as {example}"
        )
    if masks:
        mask = as_text(os.path.relpath(next(iter(masks.values())), root))
        parts.append(f"masks of {plural(len(masks), 'image')}, such as {mask}")
    if found.tool == MASKS:
        parts.append("a box around all pixels of each class")
    if class_file is not None and found.tool != CVAT:
        parts.append(f"classes from {as_text(os.path.relpath(class_file.path, root))}")
    return f"{as_text(root)}: {'; '.join(parts)}"


def _counts(
    root: Path,
    found: FoundLabels,
    drawings: Mapping[str, Drawing],
    images: Sequence[str],
    name_by_key: Mapping[str, str],
    class_file: ClassFile | None,
) -> list[str]:
    """Return a sentence for each kind of problem, with the number of files and an example."""
    places = defaultdict[str, dict[str, str]](dict)
    for image, drawing in drawings.items():
        file = os.path.relpath(found.files[image], root)
        if found.tool == CVAT:
            file = image
        for problem in drawing.problems:
            places[problem.kind].setdefault(file, problem.place)
        for number, shape in enumerate(drawing.shapes, 1):
            is_class = shape.name in name_by_key or shape.name in NO_CLASSES
            if not is_class and class_file is not None:
                kind = f"name a class that {as_text(class_file.path.name)} doesn't have"
                places[kind].setdefault(file, shape.place or f"object {number}")
    unit = f"images in {cvat.NAME}" if found.tool == CVAT else "label files"
    notes = []
    for kind, place_by_file in places.items():
        file, place = next(iter(place_by_file.items()))
        example = f"{as_text(file)}, {place}" if place else as_text(file)
        notes.append(
            f"{unit} that {kind}: {len(place_by_file)} of {len(drawings)}, such as {example}; "
            "what is wrong is left out"
        )
    without = sorted({*images} - found.files.keys())
    if without:
        have = verb(len(without), "has", "have")
        count = verb(len(without), "counts as an image", "count as images")
        notes.append(
            f"{len(without)} of {plural(len(images), 'image')} {have} no labels, such as "
            f"{without[0]}, and {count} without an object"
        )
    if found.unused:
        notes.append(f"{unit} without an image: {len(found.unused)}, such as {found.unused[0]}")
    return notes


def _class_notes(names: Sequence[str], match: ClassMatch, is_sorted: bool) -> list[str]:
    """Return sentences on the classes of the labels."""
    notes = []
    others = [name for name in names if name not in match.index]
    if others:
        notes.append(
            f"{len(others)} of {plural(len(names), 'class')} of the labels, such as {others[0]!r}, "
            f"{verb(len(others), 'is', 'are')} no class of the network, so the objects are left "
            f"out; data.classes can name {verb(len(others), 'it', 'them')}"
        )
    if is_sorted and [*match.listed] == [*names] and len(names) > 1:
        notes.append(
            f"classes are numbered as their names are sorted: {names[0]!r} is output 0; "
            "data.classes names another order"
        )
    return notes


def _row(source: Source, index: int) -> Row:
    """Return the row of the image at this index."""
    image = source.images[index]
    files = [listed_file(source.root, as_name(image))]
    if source.found.tool in TOOLS and image in source.found.files:
        files.append(source.found.files[image])
    if image in source.masks:
        files.append(source.masks[image])

    def facts() -> str:
        classes = sorted(source.class_index.items())
        return f"{classes} {source.mask_classes.tolist()} {source.found.drawings.get(image)}"

    return Row(
        tuple(files),
        annotate=partial(_note, source, image),
        labels=partial(_mask_labels, source, image),
        facts=facts,
        is_upright=True,
    )


def _note(source: Source, image: str, size: Size) -> Note:
    """Return the annotation of an image of this size."""
    drawing = source.found.drawing(image)
    shapes = drawing.in_pixels(size)
    problems: list[str] = []
    if drawing.size not in (None, size):
        shapes = ()
        problems.append(
            f"the labels are for {drawing.size} pixels (width, height), and the image has {size}"
        )
    objects: list[tuple[int, Box]] = []
    regions: list[tuple[int, Region]] = []
    has_all_regions = not drawing.problems
    for shape in shapes:
        if shape.name in NO_CLASSES and shape.polygon:
            regions.append((NO_CLASSES[shape.name], polygon_pixels(shape.polygon, size)))
            continue
        label = source.class_index.get(shape.name)
        if label is None:
            continue
        box, problem = clip_to_image(shape.box, size)
        if problem:
            rounded = [round(value, 2) for value in shape.box]
            problems.append(f"the box {rounded} of {short_repr(shape.name)} {problem}")
        if box is not None:
            objects.append((label, box))
            if shape.polygon:
                regions.append((label, polygon_pixels(shape.polygon, size)))
            else:
                has_all_regions = False
    mask = None
    # A mask in which an object is missing would say that its pixels are background.
    if regions and has_all_regions:
        mask = mask_of_regions(regions, size)
    if image in source.masks:
        mask, mask_problems = source.mask(image, size)
        problems += mask_problems
        if source.found.tool == MASKS and mask is not None:
            objects = [*boxes_of(mask)]
    return Note(label_of_largest(tuple(objects)), tuple(objects), tuple(problems), mask)


def _mask_labels(source: Source, image: str) -> Labels:
    """Return the classes in the mask of an image, ascending; none if it can't be read."""
    if image not in source.masks:
        return ()
    try:
        with open_image(source.masks[image], image) as picture:
            size = picture.size
    except BadImage:
        return ()
    mask, _ = source.mask(image, size)
    return () if mask is None else tuple(label for label in np.unique(mask).tolist() if label >= 0)


def _numbers_of_one_class(picture: Image.Image) -> NDArray[np.generic]:
    """Return the numbers of a mask of one class, which may be 255 instead of 1."""
    numbers = np.array(picture)
    return numbers if (numbers == 1).any() else np.where(numbers == BORDER, 1, numbers)
