"""Connected regions of a map at every threshold, in one pass: pixels join from the highest down (union-find).

Compiled by numba, whose import takes a third of a second: `metrics.regions` imports this file when it is first needed.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numba import njit

MOST = 1_000_000  # the highest level: maps are rounded to millionths
# The eight neighbours of a pixel in a ring, as (row, column) steps; those at even places share an edge with it.
RING = ((-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1))


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function compiled on its first call, and kept on disk where a folder for it can be written."""
    try:
        return njit(cache=True)(function)
    except RuntimeError:  # numba found neither this folder nor the user's to be writable: compile in every process
        return njit(function)


@cache
def joins(connectivity: int) -> np.ndarray:
    """(256, 4) int8: for each set of neighbours that are above, bit i the i-th of RING, those that a pixel must join,
    as places in RING, then -1.

    Neighbours that touch each other belong together already, so one of them is enough: mostly one in all.
    connectivity: 8 (diagonals touch) or 4.
    """
    table = np.full((256, 4), -1, np.int8)
    for above in range(256):
        left, found = [i for i in range(8) if above >> i & 1], 0
        while left:
            group = [left.pop(0)]
            for i in group:  # grows while it is read
                group += [j for j in left if _touch(i, j, connectivity)]
                left = [j for j in left if j not in group]
            touching = [i for i in sorted(group) if connectivity == 8 or i % 2 == 0]
            if touching:
                table[above, found] = touching[0]
                found += 1
    return table


def _touch(i: int, j: int, connectivity: int) -> bool:
    rows, columns = (abs(a - b) for a, b in zip(RING[i], RING[j], strict=True))
    return max(rows, columns) == 1 if connectivity == 8 else rows + columns == 1


@compiled
def sweep(
    levels: np.ndarray, thresholds: np.ndarray, joins: np.ndarray, truth: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(boxes (T, 4) int32, largest (T,), best (T,)) of one map's regions above each threshold.

    levels: (H, W) int32. thresholds: (T,) int32, ascending; a pixel is above where its level is greater.
    joins: `joins(connectivity)`. truth: (n, 4) float64 boxes. boxes: x0 y0 x1 y1, far edges exclusive, around the
    region with the most pixels, of equals the one whose first pixel comes first in reading order; zeros where nothing
    is above. largest: that box's best IoU with a true box; best: the same over all regions' boxes. 0 without a box.
    """
    count, stride = len(thresholds), levels.shape[1] + 2
    starts, order = _by_step(levels, thresholds)
    region = np.zeros((levels.shape[0] + 2) * stride, np.int32)  # each pixel's region, 0 below the threshold
    parent = np.zeros(levels.size + 1, np.int32)  # a region that has become part of another points to it
    extent = np.empty((levels.size + 2, 6), np.int32)  # pixels, the first of them, x0, y0, x1, y1
    made, alive, roots = 0, 0, np.empty(levels.size + 1, np.int32)  # the regions that are part of no other
    boxes, largest, best = np.zeros((count, 4), np.int32), np.zeros(count), np.zeros(count)
    for step in range(count - 1, -1, -1):
        before, pixels = made, order[starts[step] : starts[step + 1]]
        made = _add(pixels, stride, joins, region, parent, extent, made)
        roots[alive : alive + made - before] = np.arange(before + 1, made + 1)
        alive, top = _kept(roots[: alive + made - before], parent, extent)
        if top:
            boxes[step] = extent[top, 2:]
            best[step] = largest[step] = _best_iou(extent, top, truth, 0.0)
            for i in range(alive):
                best[step] = _best_iou(extent, roots[i], truth, best[step])
    return boxes, largest, best


@compiled
def _by_step(levels: np.ndarray, thresholds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(starts (T + 1,), order): the pixels above thresholds[step] but not the next, in reading order, are
    order[starts[step]:starts[step + 1]]. A pixel's number counts a border of one pixel around the map."""
    height, width = levels.shape
    count = len(thresholds)
    scale = count / MOST
    passed, sizes = np.empty((height, width), np.int16), np.zeros(count + 1, np.int64)
    for y in range(height):
        for x in range(width):
            level, above = levels[y, x], min(max(int(levels[y, x] * scale), 0), count)  # nearly, where steps are even
            while above < count and thresholds[above] < level:
                above += 1
            while above > 0 and thresholds[above - 1] >= level:
                above -= 1
            passed[y, x] = above
            sizes[above] += 1
    starts = np.concatenate((np.zeros(1, np.int64), np.cumsum(sizes[1:])))
    free, order = starts.copy(), np.empty(starts[-1], np.int32)
    for y in range(height):
        for x in range(width):
            if passed[y, x]:
                order[free[passed[y, x] - 1]] = (y + 1) * (width + 2) + x + 1
                free[passed[y, x] - 1] += 1
    return starts, order


@compiled
def _add(
    pixels: np.ndarray,
    stride: int,
    joins: np.ndarray,
    region: np.ndarray,
    parent: np.ndarray,
    extent: np.ndarray,
    made: int,
) -> int:
    """Put each pixel into the regions that it touches, which become one, or into a new one; how many there are now."""
    steps = np.array([-stride, 1 - stride, 1, 1 + stride, stride, stride - 1, -1, -1 - stride])  # RING
    for pixel in pixels:
        above, mine = 0, 0
        for i in range(8):
            above |= (region[pixel + steps[i]] != 0) << i
        for i in range(4):
            if joins[above, i] < 0:
                break
            other = _root(parent, region[pixel + steps[joins[above, i]]])
            if mine == 0:
                mine = other
            elif other != mine:
                parent[other] = mine
                one = extent[other]
                _grow(extent, mine, one[0], one[1], one[2], one[3], one[4], one[5])
        if mine == 0:
            made += 1
            mine = parent[made] = made
            extent[made, 0], extent[made, 1:4], extent[made, 4:] = 0, pixel, 0  # no pixel as yet, and so no bounds
        region[pixel] = mine
        x, y = pixel % stride - 1, pixel // stride - 1
        _grow(extent, mine, 1, pixel, x, y, x + 1, y + 1)
    return made


@compiled
def _root(parent: np.ndarray, region: int) -> int:
    """The region that this one is part of by now; the way there is halved for the next who asks."""
    while parent[region] != region:
        parent[region] = parent[parent[region]]
        region = parent[region]
    return region


@compiled
def _grow(extent: np.ndarray, mine: int, size: int, first: int, x0: int, y0: int, x1: int, y1: int) -> None:
    """Take pixels into a region's extent."""
    extent[mine, 0] += size
    extent[mine, 1], extent[mine, 2] = min(extent[mine, 1], first), min(extent[mine, 2], x0)
    extent[mine, 3], extent[mine, 4] = min(extent[mine, 3], y0), max(extent[mine, 4], x1)
    extent[mine, 5] = max(extent[mine, 5], y1)


@compiled
def _kept(roots: np.ndarray, parent: np.ndarray, extent: np.ndarray) -> tuple[int, int]:
    """(how many of these regions are part of no other still, moved to the front; the largest of them, 0 for none)."""
    kept, top = 0, 0
    for one in roots:
        if parent[one] == one:
            roots[kept] = one
            kept += 1
            if top == 0 or _before(extent, one, top):
                top = one
    return kept, top


@compiled
def _before(extent: np.ndarray, one: int, other: int) -> bool:
    """Whether a region has more pixels, or as many and an earlier first one."""
    more = extent[one, 0] - extent[other, 0]
    return more > 0 or (more == 0 and extent[one, 1] < extent[other, 1])


@compiled
def _best_iou(extent: np.ndarray, one: int, truth: np.ndarray, best: float) -> float:
    """The best intersection over union of a region's box with (n, 4) boxes, or `best` where that is greater."""
    left, top, right, bottom = extent[one, 2], extent[one, 3], extent[one, 4], extent[one, 5]
    area = float(right - left) * float(bottom - top)
    for i in range(len(truth)):
        x0, y0, x1, y1 = truth[i, 0], truth[i, 1], truth[i, 2], truth[i, 3]
        true = (x1 - x0) * (y1 - y0)
        if area > best * true:  # else it is too small: the intersection is no larger than the region's box
            width, height = min(right, x1) - max(left, x0), min(bottom, y1) - max(top, y0)
            shared = max(width, 0.0) * max(height, 0.0)
            best = max(best, shared / (area + true - shared))
    return best
