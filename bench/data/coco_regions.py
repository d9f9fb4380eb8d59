"""COCO's regions as pixels. They are checked first: pycocotools takes them to C as they are, and what is out of range
there ends the process or reads other memory. Run lengths don't need it."""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from axiom_bench.errors import BenchError

Region = NDArray[np.bool_]  # (h, w)
MIN_NUMBERS = 6  # of a polygon: three points
MAX_OUTSIDE = 1.0  # of the image's longer side: how far a polygon may go beyond the image
MAX_DIGITS = 7  # of a run's length, 5 bits each


def pycocotools() -> ModuleType:
    """What turns polygons into pixels. Raises BenchError where it isn't installed."""
    try:
        from pycocotools import mask
    except ImportError as error:
        raise BenchError("COCO's regions need pycocotools: pip install 'axiom-bench[coco]'.") from error
    return mask


def pixels(rasteriser: ModuleType, segmentation: Any, size: tuple[int, int]) -> Region | None:
    """The pixels (h, w) of polygons [[x, y, ...], ...], or of run lengths {counts, size}, compressed or not; None where
    there are none. size: (width, height) of the image. Raises ValueError or TypeError for anything else."""
    if segmentation is None or segmentation in ([], {}):
        return None
    width, height = size
    if isinstance(segmentation, list):
        polygons = [_polygon(numbers, max(size)) for numbers in segmentation]
        runs = rasteriser.merge(rasteriser.frPyObjects(polygons, height, width))
        return np.array(rasteriser.decode(runs), dtype=bool)
    if not isinstance(segmentation, dict):
        raise TypeError(f"a region is a list of polygons or run lengths, not {type(segmentation).__name__}")
    if segmentation.get("size") != [height, width]:
        raise ValueError(f"a region of {segmentation.get('size')} pixels (height, width), not {[height, width]}")
    counts = segmentation.get("counts")
    return _of_runs(_counts(counts) if isinstance(counts, str) else counts, height, width)


def finite(numbers: object) -> list[float]:
    """A list of numbers as floats. Raises TypeError for anything else, and ValueError for NaN and infinity."""
    if not isinstance(numbers, list) or not all(type(number) in (int, float) for number in numbers):
        raise TypeError("a list of numbers is missing")
    floats = [float(number) for number in numbers]
    if not all(map(math.isfinite, floats)):
        raise ValueError("a number isn't finite")
    return floats


def _polygon(numbers: object, side: int) -> list[float]:
    polygon = finite(numbers)
    if len(polygon) < MIN_NUMBERS or len(polygon) % 2:
        raise ValueError(f"a polygon of {len(polygon)} numbers")
    if min(polygon) < -MAX_OUTSIDE * side or max(polygon) > (1 + MAX_OUTSIDE) * side:
        raise ValueError(f"a polygon far outside the image: {min(polygon):.4g} to {max(polygon):.4g}")
    return polygon


def _of_runs(counts: Any, height: int, width: int) -> Region:
    """Lengths of runs outside and inside in turn, column by column."""
    if not isinstance(counts, list) or not all(type(count) is int and 0 <= count <= height * width for count in counts):
        raise ValueError("run lengths that are no list of numbers of pixels")
    if sum(counts) != height * width:
        raise ValueError(f"run lengths of {sum(counts)} pixels, not {height * width}")
    inside = np.arange(len(counts)) % 2 == 1
    return np.repeat(inside, counts).reshape((height, width), order="F")


def _counts(text: str) -> list[int]:
    """COCO's compressed run lengths: characters from 48 on with five bits each and one that says whether more follow,
    the lowest first, the last with a sign; from the third run on the difference to the one before the last
    (`rleFrString` in pycocotools' maskApi.c)."""
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
