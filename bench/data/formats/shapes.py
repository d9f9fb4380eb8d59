"""The objects of one image as a labelling tool wrote them, and the pixels of their polygons.

Every reader of a tool's files returns a `Drawing`, so that all tools are used in the same way.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects

from axiom_bench.data.base import BACKGROUND, NO_VERDICT, Box, Objects

Region = NDArray[np.bool_]  # (h, w)
Point = tuple[float, float]  # x, y


@dataclass(frozen=True)
class Shape:
    """One object.

    Attributes:
        name: The class, as the file names it.
        box: x0, y0, x1, y1 in pixels from 0, x1 and y1 exclusive.
        polygon: The corners of its outline; () if only the box is known.
        place: The place in the file, such as "line 2".
    """

    name: str
    box: Box
    polygon: tuple[Point, ...] = ()
    place: str = ""


@dataclass(frozen=True)
class Problem:
    """A part of a file that isn't used.

    Attributes:
        kind: A phrase that is counted, and continues "3 of 120 label files ...".
        place: The place in the file, such as "line 2"; "" for all of it.
    """

    kind: str
    place: str = ""


@dataclass(frozen=True)
class Drawing:
    """The objects of one image.

    Attributes:
        shapes: The objects.
        problems: The parts of the file that aren't used.
        size: (width, height) of the image that was labelled; None if the file doesn't say.
        has_shares: True if boxes and polygons are in shares of the image, not in pixels.
        image: The name of the image in the file; "" if there is none.
        fits: True if the file has the form of the tool's files.
    """

    shapes: tuple[Shape, ...] = ()
    problems: tuple[Problem, ...] = ()
    size: tuple[int, int] | None = None
    has_shares: bool = False
    image: str = ""
    fits: bool = True

    def in_pixels(self, size: tuple[int, ...]) -> tuple[Shape, ...]:
        """Return the shapes in pixels of an image of this size, (width, height)."""
        if not self.has_shares:
            return self.shapes
        width, height = size
        shapes = []
        for shape in self.shapes:
            x0, y0, x1, y1 = shape.box
            box = (x0 * width, y0 * height, x1 * width, y1 * height)
            polygon = tuple((x * width, y * height) for x, y in shape.polygon)
            shapes.append(replace(shape, box=box, polygon=polygon))
        return tuple(shapes)


def finite_floats(numbers: object) -> list[float]:
    """Return a list of numbers as floats.

    Raises:
        TypeError: For anything else.
        ValueError: For NaN and infinity.
    """
    if not isinstance(numbers, list) or not all(type(number) in (int, float) for number in numbers):
        raise TypeError("a list of numbers is missing")
    floats = [float(number) for number in numbers]
    if not all(map(math.isfinite, floats)):
        raise ValueError("a number isn't finite")
    return floats


def polygon_shape(name: str, points: Sequence[Point], place: str = "") -> Shape:
    """Return the shape of a polygon, whose box encloses all corners."""
    xs, ys = zip(*points, strict=True)
    return Shape(name, (min(xs), min(ys), max(xs), max(ys)), tuple(points), place)


def polygon_pixels(polygon: Sequence[Point], size: tuple[int, ...]) -> Region:
    """Return the pixels (h, w) whose centre is inside a polygon.

    A centre is inside if a ray to the right of it crosses the outline an odd number of times.

    Args:
        polygon: The corners in pixels, at most a few thousand.
        size: (width, height) of the image.
    """
    width, height = size
    inside = np.zeros((height, width), dtype=bool)
    centre_x = np.arange(width) + 0.5
    centre_y = np.arange(height) + 0.5
    for (x0, y0), (x1, y1) in zip(polygon, (*polygon[1:], polygon[0]), strict=True):
        rows = np.flatnonzero((y0 <= centre_y) != (y1 <= centre_y))
        if rows.size:
            crossing_x = x0 + (centre_y[rows] - y0) * (x1 - x0) / (y1 - y0)
            inside[rows] ^= centre_x < crossing_x[:, None]
    return inside


def mask_of_regions(
    regions: Sequence[tuple[int, Region]], size: tuple[int, ...]
) -> NDArray[np.int64]:
    """Return the class per pixel, (h, w), or BACKGROUND or NO_VERDICT.

    Of regions that overlap, the smaller one lies on top. Regions without a verdict lie below all
    of them.

    Args:
        regions: The class index or NO_VERDICT of each region, and its pixels.
        size: (width, height) of the image.
    """

    def depth(entry: tuple[int, Region]) -> tuple[bool, int]:
        label, region = entry
        return label != NO_VERDICT, -int(region.sum())

    mask = np.full(size[::-1], BACKGROUND)
    for label, region in sorted(regions, key=depth):
        mask[region] = label
    return mask


def boxes_of(mask: NDArray[np.int64]) -> Objects:
    """Return one box around all pixels of each class, ascending.

    Args:
        mask: (h, w), class index per pixel, negative for none.
    """
    # For each class up to the highest one: two slices, or None.
    regions = find_objects(mask.clip(min=BACKGROUND) + 1)
    objects = []
    for label, region in enumerate(regions):
        if region:
            rows, columns = region
            objects.append((label, (columns.start, rows.start, columns.stop, rows.stop)))
    return tuple(objects)
