"""LabelMe's JSON: the rectangles and polygons of one image, in pixels from 0."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from axiom_bench.data.formats.files import reason_of
from axiom_bench.data.formats.shapes import (
    Drawing,
    Point,
    Problem,
    Shape,
    finite_floats,
    polygon_shape,
)
from axiom_bench.environment import decode_text

MALFORMED = "aren't LabelMe's JSON"
BAD_SHAPE = "have a shape that is malformed, or no rectangle or polygon"
LEAST_CORNERS = 3
SIDES = ("imageWidth", "imageHeight")


def read_labelme(content: bytes) -> Drawing:
    """Return the objects of a file."""
    try:
        document = json.loads(decode_text(content))
        entries = list(document["shapes"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        return Drawing(problems=(Problem(MALFORMED, reason_of(error)),), fits=False)
    shapes: list[Shape] = []
    problems: list[Problem] = []
    for number, entry in enumerate(entries, 1):
        try:
            shapes.append(_shape(entry))
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
            problems.append(Problem(BAD_SHAPE, f"shape {number}"))
    width, height = (document.get(side) for side in SIDES)
    size = (width, height) if isinstance(width, int) and isinstance(height, int) else None
    image = str(document.get("imagePath") or "")
    return Drawing(tuple(shapes), tuple(problems), size, image=image)


def _shape(entry: Mapping[str, Any]) -> Shape:
    """Return a shape. Raise ValueError, TypeError or KeyError for one that can't be used."""
    name = str(entry["label"])
    points: list[Point] = []
    for pair in entry["points"]:
        x, y = finite_floats(pair)
        points.append((x, y))
    kind = entry.get("shape_type") or "polygon"
    enclosing = polygon_shape(name, points)
    if kind == "polygon" and len(points) >= LEAST_CORNERS:
        return enclosing
    if kind == "rectangle" and len(points) in (2, 4):  # two opposite corners, in any order, or all
        return Shape(name, enclosing.box)
    raise ValueError(f"a shape of type {kind!r} with {len(points)} points")
