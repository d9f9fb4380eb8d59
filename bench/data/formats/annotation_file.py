"""Boxes from XML files, and masks from pictures of numbers.

A missing or malformed file is reported as a problem, not raised.

ImageNet, VOC and ImageNet-S have their annotations in such files.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from axiom_bench.data.base import NO_VERDICT, OTHER_CLASS, BadImage, Box, Objects, clip_to_image
from axiom_bench.data.formats.decoding import open_image
from axiom_bench.data.formats.files import as_text, content_of, plain_name, reason_of, short_repr

MAX_BYTES = 2**24  # of one image's annotation; ImageNet's largest has 25 kB
# What a malformed file raises. LookupError: an unknown encoding.
MALFORMED = (ElementTree.ParseError, ValueError, OverflowError, LookupError)
CORNERS = ("xmin", "ymin", "xmax", "ymax")


def read_objects(
    source: Path | tuple[str, bytes | None],
    class_index: Mapping[str, int],
    first_pixel: int,
    size: tuple[int, ...] | None = None,
    difficult: bool = True,
) -> tuple[Objects, tuple[str, ...]]:
    """Read the objects of an annotation.

    Args:
        source: The file, or its name and its content, which is None for a missing file.
        class_index: {class as the file names it, or the `plain_name` form of that name: class
            index}.
        first_pixel: The number of the first pixel in the file, 0 or 1. The file's xmax and ymax are
            the last pixel inside the box.
        size: (width, height) of the stored image. Boxes are clipped to it, and boxes that were
            drawn on an image of another size aren't used.
        difficult: True if objects that are marked as difficult count.

    Returns:
        The objects with 0-based boxes, x1 and y1 exclusive; and problems.
    """
    if isinstance(source, Path):
        path = source
        try:
            source = as_text(path.name), content_of(path, MAX_BYTES)
        except FileNotFoundError:
            source = as_text(path), None
        except OSError as error:
            return (), (f"the annotation {as_text(path.name)} can't be read: {reason_of(error)}",)
    name, content = source
    if content is None:
        return (), (f"there is no annotation {name}",)
    try:
        root = parse_xml(content)
        drawn_on = tuple(
            int(float(root.findtext(f"size/{side}") or 0)) for side in ("width", "height")
        )
        elements = list(root.iter("object"))
        items: list[tuple[str, Box]] = []
        for element in elements:
            is_difficult = (element.findtext("difficult") or "0").strip() == "1"
            if is_difficult and not difficult:
                continue
            label = element.findtext("name") or ""
            if label not in class_index and plain_name(label) in class_index:
                label = plain_name(label)
            items.append((label, box_of_object(element, first_pixel)))
    except MALFORMED as error:
        return (), (f"the annotation {name} is malformed: {reason_of(error)}",)
    if size is not None and all(drawn_on) and drawn_on != size:
        return (), (
            f"the annotation {name} is for {drawn_on} pixels (width, height), the image has {size}",
        )
    problems = [] if elements else [f"{name} has no object"]
    objects: list[tuple[int, Box]] = []
    for label, box in items:
        part, problem = clip_to_image(box, size or (math.inf, math.inf))
        if label not in class_index:
            problem = OTHER_CLASS
        elif part is not None:
            objects.append((class_index[label], part))
        if problem:
            problems.append(f"{name}: the box {[*box]} of {short_repr(label)} {problem}")
    return tuple(objects), tuple(problems)


def read_mask(
    path: Path,
    size: tuple[int, ...],
    numbers: Callable[[Image.Image], np.ndarray],
    classes: NDArray[np.int64],
    ignored: int,
) -> tuple[NDArray[np.int64] | None, tuple[str, ...]]:
    """Read a mask from a picture of numbers.

    Args:
        path: The picture.
        size: Its expected (width, height).
        numbers: Returns the numbers of the picture, one per pixel.
        classes: The class index of each number, or BACKGROUND.
        ignored: The number of pixels without a verdict.

    Returns:
        The class index per pixel (h, w), BACKGROUND or NO_VERDICT; None if the mask can't be used.
        And problems.
    """
    name = as_text(path.name)
    try:
        with open_image(path, f"the mask {name}") as picture:
            values = numbers(picture).astype(np.int64)
    except BadImage as bad:
        return None, (str(bad),)
    if values.ndim > 2:
        return None, (
            f"the mask {name} has colours; save it as a grey or palette PNG whose values are the "
            "numbers of classes",
        )
    is_ignored = values == ignored
    is_known = (values >= 0) & (values < len(classes))
    if values.shape != size[::-1] or not (is_ignored | is_known).all():
        return None, (
            f"the mask {name} isn't one class per pixel of a {size[0]} x {size[1]} image",
        )
    indices = np.where(is_ignored, 0, values)  # any valid number for ignored pixels
    return np.where(is_ignored, NO_VERDICT, classes[indices]), ()


def parse_xml(content: bytes) -> ElementTree.Element:
    """Return the root of an XML document, or raise one of MALFORMED."""
    return ElementTree.fromstring(content, ElementTree.XMLParser(target=_WithoutEntities()))


class _WithoutEntities(ElementTree.TreeBuilder):
    """A builder that refuses a document type.

    Its definitions can grow without bounds, and no annotation has one.
    """

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise ValueError(f"it has a document type, {name!r}")


def box_of_object(item: ElementTree.Element, first_pixel: int) -> Box:
    """Return the box of an `object`, x1 and y1 exclusive.

    Raises:
        ValueError: If it is malformed.
    """
    values = [float(item.findtext(f"bndbox/{corner}") or "nan") for corner in CORNERS]
    if not all(map(math.isfinite, values)):
        raise ValueError(f"a box of {values}")
    if max(values) <= 1 and any(value % 1 for value in values):
        raise ValueError(f"a box of {values}, which are parts of the image and must be pixels")
    x0, y0, x1, y1 = values
    return x0 - first_pixel, y0 - first_pixel, x1 - first_pixel + 1, y1 - first_pixel + 1
