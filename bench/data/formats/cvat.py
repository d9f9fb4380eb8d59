"""CVAT's annotations.xml, "CVAT for images 1.1": the boxes and polygons of all images in one file.

Boxes and points are in pixels from 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from xml.etree.ElementTree import Element

from axiom_bench.data.formats.annotation_file import MALFORMED, parse_xml
from axiom_bench.data.formats.files import as_text, content_of, reason_of
from axiom_bench.data.formats.shapes import (
    Drawing,
    Point,
    Problem,
    Shape,
    finite_floats,
    polygon_shape,
)
from axiom_bench.errors import BenchError

NAME = "annotations.xml"
EXPORT = "export the task as 'CVAT for images 1.1'"
MAX_BYTES = 2**30
SIDES = ("width", "height")
CORNERS = ("xtl", "ytl", "xbr", "ybr")
BAD_SHAPE = "have a shape that is malformed or rotated, or no box or polygon"
LEAST_CORNERS = 3


@dataclass(frozen=True)
class CvatFile:
    """The content of the file.

    Attributes:
        classes: The labels of the task, in its order.
        drawings: {image: its objects}.
    """

    classes: tuple[str, ...]
    drawings: dict[str, Drawing]


def read_cvat(path: Path) -> CvatFile:
    """Read the file.

    Raises:
        BenchError: If it can't be read, or is an export for videos.
    """
    try:
        root = parse_xml(content_of(path, MAX_BYTES))
    except (OSError, *MALFORMED) as error:
        raise BenchError(
            f"{as_text(path)} can't be read: {reason_of(error)}; {EXPORT}, or set "
            "data.annotations=none."
        ) from error
    if root.find("track") is not None:
        raise BenchError(f"{as_text(path)} has tracks of a video, which name no images; {EXPORT}.")
    labels = root.find("meta//labels")
    names = [] if labels is None else [label.findtext("name") or "" for label in labels]
    drawings = {image.get("name", ""): _drawing(image) for image in root.iter("image")}
    return CvatFile(tuple(names), drawings)


def _drawing(image: Element) -> Drawing:
    """Return the objects of an image."""
    shapes: list[Shape] = []
    problems: list[Problem] = []
    for number, element in enumerate(image, 1):
        place = f"shape {number} ({element.tag})"
        try:
            shapes.append(_shape(element))
        except (ValueError, KeyError):
            problems.append(Problem(BAD_SHAPE, place))
    sides = [image.get(side, "") for side in SIDES]
    size = None
    if all(map(str.isdecimal, sides)):
        size = (int(sides[0]), int(sides[1]))
    return Drawing(tuple(shapes), tuple(problems), size)


def _shape(element: Element) -> Shape:
    """Return a shape. Raise ValueError or KeyError for one that can't be used."""
    name = element.attrib["label"]
    if element.tag == "polygon":
        points: list[Point] = []
        for pair in element.attrib["points"].split(";"):
            x, y = finite_floats([*map(float, pair.split(","))])
            points.append((x, y))
        if len(points) >= LEAST_CORNERS:
            return polygon_shape(name, points)
    if element.tag == "box" and not float(element.get("rotation", "0")):
        x0, y0, x1, y1 = finite_floats([float(element.attrib[corner]) for corner in CORNERS])
        return Shape(name, (x0, y0, x1, y1))
    raise ValueError(f"a shape of kind {element.tag!r}")
