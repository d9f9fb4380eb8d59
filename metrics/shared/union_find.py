"""Connected regions of a map at every threshold, in one pass: pixels join from the highest down (union-find).

Compiled by numba, whose import takes a third of a second: `shared.regions` imports this file when it is first needed.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numba import njit

# The eight neighbours of a pixel in a ring, as (row, column) steps; those at even places share an edge with it.
RING = ((-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1))
NONE = len(RING)


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function compiled on its first call, and kept on disk where a folder for it can be written."""
    try:
        return njit(cache=True)(function)
    except RuntimeError:  # numba found neither this folder nor the user's to be writable: compile in every process
        return njit(function)


@cache
def joins(connectivity: int) -> np.ndarray:
    """(256, 4) uint8: for each set of neighbours that are above, bit i the i-th of RING, those that a pixel must join,
    as places in RING, then NONE.

    Neighbours that touch each other belong together already, so one of them is enough: mostly one in all.
    connectivity: 8 (diagonals touch) or 4.
    """
    table = np.full((256, 4), NONE, np.uint8)
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
    steps: np.ndarray, count: int, joins: np.ndarray, truth: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(boxes (T, 4) int32, largest (T,), best (T,)) of one map's regions above each of T = count ascending thresholds.

    steps: (H, W) uint16, how many of the thresholds a pixel is above; sides below 32,768. joins: `joins(connectivity)`.
    truth: (n, 4) float64 boxes. boxes: x0 y0 x1 y1, far edges exclusive, around the region with the most pixels, of
    equals the one whose first pixel comes first in reading order; zeros where nothing is above. largest: that box's
    best IoU with a true box; best: the same over all regions' boxes. 0 without a box.
    """
    width = steps.shape[1]
    # RING. Whatever is an index is unsigned here: numba asks of each other one whether it counts from the end.
    ring = np.array([-width, 1 - width, 1, 1 + width, width, width - 1, -1, -1 - width]).astype(np.uintp)
    (starts, order), before = _by_step(steps, count), _before(steps)
    region = np.empty(steps.size, np.uint32)  # each pixel's, once it is in one; they are numbered from 1
    parent = np.empty(steps.size + 1, np.uint32)  # a region that has become part of another points to it
    extent = np.zeros((steps.size + 1, 6), np.int32)  # pixels, the first of them, x0, y0, x1, y1
    area = np.zeros(steps.size + 1, np.int32)  # of the box; 0 where it has become part of another
    made, top = 0, np.uint32(0)  # how many there are; the largest
    boxes, largest, best = np.zeros((count, 4), np.int32), np.zeros(count), np.zeros(count)
    least = max(((truth[:, 2] - truth[:, 0]) * (truth[:, 3] - truth[:, 1])).min(), 0.0) if len(truth) else np.inf
    for step in range(count, 0, -1):
        for pixel in order[starts[step] : starts[step + 1]]:
            x, y = pixel & 0xFFFF, pixel >> 16
            at, own = np.uintp(y * width + x), np.uint32(0)
            for i in range(4):
                place = joins[before[at], i]
                if place == NONE:
                    break
                other = _root(parent, region[at + ring[place]])
                own = _united(own, other, parent, extent, area)
            if own == 0:
                made += 1
                own = np.uint32(made)
                parent[own] = own
                extent[own, 1:4] = pixel  # no pixel as yet, and so no bounds
            region[at] = own
            _grow(extent, area, own, 1, pixel, x, y, x + 1, y + 1)
            if _exceeds(extent, own, top):  # no other has changed, but for parts of this one, which are smaller
                top = own
        if top:
            boxes[step - 1] = extent[top, 2:]
            found = largest[step - 1] = _best_iou(extent, top, truth, 0.0)
            for one in range(1, made + 1):
                if area[one] > found * least:  # else it is too small for any true box: see _best_iou
                    found = _best_iou(extent, one, truth, found)
            best[step - 1] = found
    return boxes, largest, best


@compiled
def _by_step(steps: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """(starts (T + 2,), order (H W,)): order[starts[s]:starts[s + 1]] are the pixels of step s as y << 16 | x, in
    reading order."""
    height, width = steps.shape
    starts = np.zeros(count + 2, np.int64)
    for y in range(height):
        for x in range(width):
            starts[steps[y, x] + 1] += 1
    starts = np.cumsum(starts)
    free, order = starts.copy(), np.empty(steps.size, np.int32)
    for y in range(height):
        for x in range(width):
            order[free[steps[y, x]]] = y << 16 | x
            free[steps[y, x]] += 1
    return starts, order


@compiled
def _before(steps: np.ndarray) -> np.ndarray:
    """(H W,) uint8: bit i where the i-th neighbour of RING comes before the pixel: it is higher, or as high and earlier
    in reading order. Step by step this is what is there already; for all pixels at once it is quicker to find."""
    height, width = steps.shape
    wide = np.zeros((height + 2, width + 2), steps.dtype)
    wide[1:-1, 1:-1] = steps
    found = np.zeros((height, width), np.uint8)
    for i, (down, right) in enumerate(RING):
        bit, earlier = np.uint8(1 << i), (down, right) < (0, 0)
        for y in range(height):
            here, there, row = steps[y], wide[y + 1 + down, 1 + right : 1 + right + width], found[y]
            for x in range(width):  # no branches, so that the processor takes many pixels at once
                if (there[x] > here[x]) | (earlier & (there[x] == here[x])):
                    row[x] |= bit
    return found.ravel()


@compiled
def _root(parent: np.ndarray, region: int) -> int:
    """The region that this one is part of by now; the way there is halved for the next who asks."""
    while parent[region] != region:
        parent[region] = parent[parent[region]]
        region = parent[region]
    return region


@compiled
def _united(one: int, other: int, parent: np.ndarray, extent: np.ndarray, area: np.ndarray) -> int:
    """The region that two become: the smaller is part of the larger from now on. one may be 0, none."""
    if one == 0 or one == other:
        return other
    if extent[one, 0] < extent[other, 0]:
        one, other = other, one
    parent[other], area[other] = one, 0
    part = extent[other]
    _grow(extent, area, one, part[0], part[1], part[2], part[3], part[4], part[5])
    return one


@compiled
def _grow(
    extent: np.ndarray, area: np.ndarray, own: int, size: int, first: int, x0: int, y0: int, x1: int, y1: int
) -> None:
    """Take pixels into a region's extent."""
    all_of = extent[own]
    all_of[0] += size
    all_of[1], all_of[2], all_of[3] = min(all_of[1], first), min(all_of[2], x0), min(all_of[3], y0)
    all_of[4], all_of[5] = max(all_of[4], x1), max(all_of[5], y1)
    area[own] = (all_of[4] - all_of[2]) * (all_of[5] - all_of[3])


@compiled
def _exceeds(extent: np.ndarray, one: int, other: int) -> bool:
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
