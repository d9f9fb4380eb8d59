"""Connected regions of a map at every threshold, in one pass: pixels are added from the highest down (union-find).

Compiled by numba: import it when it is needed.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np

from axiom_bench.metrics.shared.cpu import compiled

# The eight neighbours of a pixel in a ring, as (row, column) steps; those at even places share an edge with it.
RING = ((-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1))
NONE = len(RING)


class Rule(NamedTuple):
    """What a region's size and its box are.

    gains: (256,) uint8, what a pixel adds to its region's size, by the set of neighbours that were added before it (bit
    i: the i-th of RING). last_of_equals: whether of equally large regions the one whose first pixel comes last is the
    largest, instead of that whose first pixel comes first. near: by how many pixels a box is larger than its region, on
    every side; a region whose box would begin outside of the map has none. far: how many more pixels a box has at its
    far edges. margin: how many pixels at the map's far edges no box reaches.
    """

    gains: np.ndarray
    last_of_equals: bool
    near: int
    far: int
    margin: int


class Boxing(NamedTuple):
    """true_boxes: (n, 4). near, far: see `Rule`. right, bottom: where boxes end at the latest."""

    true_boxes: np.ndarray
    near: int
    far: int
    right: int
    bottom: int


PIXELS = Rule(np.ones(256, np.uint8), last_of_equals=False, near=0, far=0, margin=0)  # counted, with boxes around them


@cache
def joins(connectivity: int) -> np.ndarray:
    """(256, 4) uint8: the neighbours whose regions a pixel joins, as places in RING followed by NONE, for each set of
    neighbours that are above the threshold (bit i: the i-th of RING).

    Neighbours that touch each other are of one region already, so one of them is enough: mostly one in all.
    connectivity: 8 (diagonals touch) or 4.
    """
    table = np.full((256, 4), NONE, np.uint8)
    for neighbours in range(256):
        remaining, count = [i for i in range(8) if neighbours >> i & 1], 0
        while remaining:
            group = [remaining.pop(0)]
            for i in group:  # grows while it is read
                group += [j for j in remaining if _touch(i, j, connectivity)]
                remaining = [j for j in remaining if j not in group]
            touching = [i for i in sorted(group) if connectivity == 8 or i % 2 == 0]
            if touching:
                table[neighbours, count] = touching[0]
                count += 1
    return table


def _touch(i: int, j: int, connectivity: int) -> bool:
    rows, columns = (abs(a - b) for a, b in zip(RING[i], RING[j], strict=True))
    return max(rows, columns) == 1 if connectivity == 8 else rows + columns == 1


@compiled
def sweep(
    steps: np.ndarray, count: int, joins: np.ndarray, true_boxes: np.ndarray, rule: Rule
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(boxes (T, 4) int32, largest (T,), best (T,)) of one map's regions above each of T = count ascending thresholds.

    steps: (H, W) uint16, how many of the thresholds a pixel is above; sides below 32,768. joins: `joins(connectivity)`.
    true_boxes: (n, 4) float64. boxes: x0 y0 x1 y1, far edges exclusive, of the largest region; zeros where no pixel is
    above. largest: that box's best IoU with a true box; best: the same over all regions' boxes. 0 without a box.
    """
    height, width = steps.shape
    # RING as offsets. Indices are unsigned: numba asks of any other index whether it counts from the end.
    ring = np.array([-width, 1 - width, 1, 1 + width, width, width - 1, -1, -1 - width]).astype(np.uintp)
    (starts, order), neighbours = _by_step(steps, count), _higher_neighbours(steps)
    region_of = np.empty(steps.size, np.uint32)  # of each pixel that has been added; regions are numbered from 1
    parent = np.zeros(steps.size + 1, np.uint32)  # a region that has become part of another points to it
    extent = np.zeros((steps.size + 1, 6), np.int32)  # size, first pixel, x0, y0, x1, y1
    since = np.zeros(steps.size + 1, np.int32)  # the step at which a region's extent became what it is
    boxing = Boxing(true_boxes, rule.near, rule.far, width - rule.margin, height - rule.margin)
    num_regions, top = 0, np.uint32(0)  # top: the largest region
    boxes, largest, highest = np.zeros((count, 4), np.int32), np.zeros(count), nothing_raised(count)
    for step in range(count, 0, -1):
        top_is_known = True
        for pixel in order[starts[step] : starts[step + 1]]:
            x, y, first = pixel & 0xFFFF, pixel >> 16, extent[top, 1]
            place = np.uintp(y * width + x)
            region = np.uint32(0)
            for neighbour in joins[neighbours[place]]:
                if neighbour == NONE:
                    break
                other = _root(parent, region_of[place + ring[neighbour]])
                if since[other] != step:  # it changes, or ends
                    raise_range(highest, step, since[other] - 1, _iou(extent, other, boxing))
                    since[other] = step
                region = _united(region, other, parent, extent)
            if region == 0:
                num_regions += 1
                region = np.uint32(num_regions)
                parent[region], since[region] = region, step
                extent[region, 1:4] = pixel  # no pixel as yet, and so no bounds
            region_of[place] = region
            _grow(extent, region, rule.gains[neighbours[place]], pixel, x, y, x + 1, y + 1)
            if _exceeds(extent, region, top, rule.last_of_equals):  # the only region that has grown
                top = region
            elif parent[top] != top or extent[top, 1] != first:  # as large as before, but it began elsewhere
                top_is_known = False
        if not top_is_known:
            top = _largest(extent, parent, num_regions, rule.last_of_equals)
        if top:
            boxes[step - 1] = _box(extent, top, boxing)
            largest[step - 1] = _iou(extent, top, boxing)
    for last in range(1, num_regions + 1):
        if parent[last] == last:
            raise_range(highest, 0, since[last] - 1, _iou(extent, last, boxing))
    return boxes, largest, raised_values(highest)


@compiled
def _largest(extent: np.ndarray, parent: np.ndarray, num_regions: int, last_of_equals: bool) -> np.uint32:
    """The largest of all regions that aren't part of another."""
    top = np.uint32(0)
    for region in range(1, num_regions + 1):
        if parent[region] == region and _exceeds(extent, region, top, last_of_equals):
            top = np.uint32(region)
    return top


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
def _higher_neighbours(steps: np.ndarray) -> np.ndarray:
    """(H W,) uint8: bit i where the i-th neighbour of RING is added before the pixel: it is higher, or as high and
    earlier in reading order. All pixels at once are quicker than each one as it is added."""
    height, width = steps.shape
    padded = np.zeros((height + 2, width + 2), steps.dtype)
    padded[1:-1, 1:-1] = steps
    higher = np.zeros((height, width), np.uint8)
    for i, (down, right) in enumerate(RING):
        bit, earlier = np.uint8(1 << i), (down, right) < (0, 0)
        for y in range(height):
            pixels, neighbours, row = steps[y], padded[y + 1 + down, 1 + right : 1 + right + width], higher[y]
            for x in range(width):  # no branches, so that the processor takes many pixels at once
                if (neighbours[x] > pixels[x]) | (earlier & (neighbours[x] == pixels[x])):
                    row[x] |= bit
    return higher.ravel()


@compiled
def _root(parent: np.ndarray, region: np.uint32) -> np.uint32:
    """The region that a region has become part of; halves the path there for later calls."""
    while parent[region] != region:
        parent[region] = parent[parent[region]]
        region = parent[region]
    return region


@compiled
def _united(first: np.uint32, second: np.uint32, parent: np.ndarray, extent: np.ndarray) -> np.uint32:
    """The region that two become: the smaller is part of the larger from now on. first: 0 for none."""
    if first == 0 or first == second:
        return second
    if extent[first, 0] < extent[second, 0]:
        first, second = second, first
    parent[second] = first
    part = extent[second]
    _grow(extent, first, part[0], part[1], part[2], part[3], part[4], part[5])
    return first


@compiled
def _grow(extent: np.ndarray, region: int, size: int, first: int, x0: int, y0: int, x1: int, y1: int) -> None:
    """Add pixels to a region's extent."""
    grown = extent[region]
    grown[0] += size
    grown[1], grown[2], grown[3] = min(grown[1], first), min(grown[2], x0), min(grown[3], y0)
    grown[4], grown[5] = max(grown[4], x1), max(grown[5], y1)


@compiled
def _exceeds(extent: np.ndarray, first: int, second: int, last_of_equals: bool) -> bool:
    """Whether the first region is larger than the second, or as large and its first pixel earlier, or later."""
    more = extent[first, 0] - extent[second, 0]
    later = extent[first, 1] - extent[second, 1]
    return more > 0 or (more == 0 and (later > 0 if last_of_equals else later < 0))


@compiled
def _box(extent: np.ndarray, region: int, boxing: Boxing) -> tuple[int, int, int, int]:
    """x0 y0 x1 y1 of a region's box; zeros where it would begin outside of the map."""
    left, top = extent[region, 2] - boxing.near, extent[region, 3] - boxing.near
    if left < 0 or top < 0:
        return 0, 0, 0, 0
    further = boxing.near + boxing.far
    return left, top, min(extent[region, 4] + further, boxing.right), min(extent[region, 5] + further, boxing.bottom)


@compiled
def _iou(extent: np.ndarray, region: int, boxing: Boxing) -> float:
    """The best IoU of a region's box with the true boxes; 0 where either is missing."""
    left, top, right, bottom = _box(extent, region, boxing)
    area, best = float(right - left) * float(bottom - top), 0.0
    for i in range(len(boxing.true_boxes)):
        x0, y0 = boxing.true_boxes[i, 0], boxing.true_boxes[i, 1]
        x1, y1 = boxing.true_boxes[i, 2], boxing.true_boxes[i, 3]
        true_area = (x1 - x0) * (y1 - y0)
        if area > best * true_area:  # else it is too small: the intersection is no larger than the region's box
            width, height = min(right, x1) - max(left, x0), min(bottom, y1) - max(top, y0)
            shared = max(width, 0.0) * max(height, 0.0)
            best = max(best, shared / (area + true_area - shared))
    return best


@compiled
def nothing_raised(count: int) -> np.ndarray:
    """A table for `count` places, all at 0: row i, column j is for the 2^i places from j on."""
    rows = 1
    while 1 << rows <= count:
        rows += 1
    return np.zeros((rows, count))


@compiled
def raise_range(table: np.ndarray, first: int, last: int, value: float) -> None:
    """Raise the places from first to last, both included, to at least a value: two powers of two cover them."""
    row = 0
    while 2 << row <= last - first + 1:
        row += 1
    for place in (first, last + 1 - (1 << row)):
        table[row, place] = max(table[row, place], value)


@compiled
def raised_values(table: np.ndarray) -> np.ndarray:
    """(count,) what each place was raised to; overwrites the table."""
    for row in range(len(table) - 1, 0, -1):
        half = 1 << (row - 1)
        for first in range(table.shape[1] + 1 - 2 * half):
            for place in (first, first + half):
                table[row - 1, place] = max(table[row - 1, place], table[row, first])
    return table[0]
