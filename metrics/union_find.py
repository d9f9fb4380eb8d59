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
    """(256,) uint8: for each set of neighbours that are above, bit i the i-th of RING, those that a pixel must join.

    Neighbours that touch each other belong together already, so one of them is enough: mostly one in all.
    connectivity: 8 (diagonals touch) or 4.
    """
    table = np.zeros(256, np.uint8)
    for above in range(256):
        left = [i for i in range(8) if above >> i & 1]
        while left:
            group = [left.pop(0)]
            for i in group:  # grows while it is read
                group += [j for j in left if _touch(i, j, connectivity)]
                left = [j for j in left if j not in group]
            touching = [i for i in sorted(group) if connectivity == 8 or i % 2 == 0]
            table[above] |= 1 << touching[0] if touching else 0
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
    steps = np.array([-stride, 1 - stride, 1, 1 + stride, stride, stride - 1, -1, -1 - stride], np.int32)  # RING
    starts, order = _by_step(levels, thresholds)
    region = np.zeros((levels.shape[0] + 2) * stride, np.int32)  # each pixel's region, 0 below the threshold
    parent = np.zeros(levels.size + 1, np.int32)  # a region that has become part of another points to it
    extent = np.empty((levels.size + 2, 6), np.int32)  # pixels, the first of them, x0, y0, x1, y1
    made, alive, roots = 0, 0, np.empty(levels.size + 1, np.int32)  # the regions that are part of no other
    boxes, largest, best = np.zeros((count, 4), np.int32), np.zeros(count), np.zeros(count)
    for step in range(count - 1, -1, -1):
        before = made
        for i in range(starts[step], starts[step + 1]):
            made += _add(order[i], stride, steps, joins, region, parent, extent, made)
        roots[alive : alive + made - before] = np.arange(before + 1, made + 1)
        alive, top = _kept(roots[: alive + made - before], parent, extent)
        if top:
            boxes[step] = extent[top, 2:]
            best[step] = largest[step] = _best_iou(extent[top], truth, 0.0)
            for i in range(alive):
                best[step] = _best_iou(extent[roots[i]], truth, best[step])
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
    pixel: int,
    stride: int,
    steps: np.ndarray,
    joins: np.ndarray,
    region: np.ndarray,
    parent: np.ndarray,
    extent: np.ndarray,
    made: int,
) -> int:
    """Put a pixel into the regions that it touches, which become one; 1 where it begins a region of its own, else 0."""
    above, mine = 0, 0
    for i in range(8):
        above |= (region[pixel + steps[i]] != 0) << i
    for i in range(8):
        if joins[above] >> i & 1:
            other = _root(parent, region[pixel + steps[i]])
            if mine == 0:
                mine = other
            elif other != mine:
                parent[other] = mine
                _grow(extent[mine], extent[other])
    x, y, alone = pixel % stride - 1, pixel // stride - 1, extent[made + 1]
    alone[0], alone[1], alone[2], alone[3], alone[4], alone[5] = 1, pixel, x, y, x + 1, y + 1
    if mine:
        region[pixel] = mine
        _grow(extent[mine], alone)
        return 0
    region[pixel] = made + 1
    parent[made + 1] = made + 1
    return 1


@compiled
def _root(parent: np.ndarray, region: int) -> int:
    """The region that this one is part of by now; the way there is halved for the next who asks."""
    while parent[region] != region:
        parent[region] = parent[parent[region]]
        region = parent[region]
    return region


@compiled
def _grow(mine: np.ndarray, other: np.ndarray) -> None:
    """Take another region's pixels into one's extent."""
    mine[0] += other[0]
    mine[1], mine[2], mine[3] = min(mine[1], other[1]), min(mine[2], other[2]), min(mine[3], other[3])
    mine[4], mine[5] = max(mine[4], other[4]), max(mine[5], other[5])


@compiled
def _kept(roots: np.ndarray, parent: np.ndarray, extent: np.ndarray) -> tuple[int, int]:
    """(how many of these regions are part of no other still, moved to the front; the largest of them, 0 for none)."""
    kept, top = 0, 0
    for one in roots:
        if parent[one] == one:
            roots[kept] = one
            kept += 1
            if top == 0 or _before(extent[one], extent[top]):
                top = one
    return kept, top


@compiled
def _before(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether a region has more pixels, or as many and an earlier first one."""
    return one[0] > other[0] or (one[0] == other[0] and one[1] < other[1])


@compiled
def _best_iou(extent: np.ndarray, truth: np.ndarray, best: float) -> float:
    """The best intersection over union of a region's box with (n, 4) boxes, or `best` where that is greater."""
    area = float(extent[4] - extent[2]) * float(extent[5] - extent[3])
    for x0, y0, x1, y1 in truth:
        true = (x1 - x0) * (y1 - y0)
        if area > best * true:  # else it is too small: the intersection is no larger than the region's box
            width, height = min(extent[4], x1) - max(extent[2], x0), min(extent[5], y1) - max(extent[3], y0)
            shared = max(width, 0.0) * max(height, 0.0)
            best = max(best, shared / (area + true - shared))
    return best
