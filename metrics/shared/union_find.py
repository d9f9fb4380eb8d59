"""Connected regions of a map at every threshold, in one pass: pixels are added from the highest down (union-find).

Compiled by numba: import it when it is needed.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from axiom_bench.metrics.shared.compiled import compiled

# The eight neighbours of a pixel in a ring, as (row, column) steps; those at even places share an edge with it.
RING = ((-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1))
NONE = len(RING)


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
    steps: np.ndarray, count: int, joins: np.ndarray, true_boxes: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(boxes (T, 4) int32, largest (T,), best (T,)) of one map's regions above each of T = count ascending thresholds.

    steps: (H, W) uint16, how many of the thresholds a pixel is above; sides below 32,768. joins: `joins(connectivity)`.
    true_boxes: (n, 4) float64. boxes: x0 y0 x1 y1, far edges exclusive, around the region with the most pixels, of
    equals the one whose first pixel comes first in reading order; zeros where no pixel is above. largest: that box's
    best IoU with a true box; best: the same over all regions' boxes. 0 without a box.
    """
    width = steps.shape[1]
    # RING as offsets. Indices are unsigned: numba asks of any other index whether it counts from the end.
    ring = np.array([-width, 1 - width, 1, 1 + width, width, width - 1, -1, -1 - width]).astype(np.uintp)
    (starts, order), neighbours = _by_step(steps, count), _higher_neighbours(steps)
    region_of = np.empty(steps.size, np.uint32)  # of each pixel that has been added; regions are numbered from 1
    parent = np.empty(steps.size + 1, np.uint32)  # a region that has become part of another points to it
    extent = np.zeros((steps.size + 1, 6), np.int32)  # number of pixels, the first of them, x0, y0, x1, y1
    area = np.zeros(steps.size + 1, np.int32)  # of the region's box; 0 where it has become part of another region
    num_regions, top = 0, np.uint32(0)  # top: the largest region
    boxes, largest, best = np.zeros((count, 4), np.int32), np.zeros(count), np.zeros(count)
    smallest_area = _smallest_area(true_boxes)
    for step in range(count, 0, -1):
        for pixel in order[starts[step] : starts[step + 1]]:
            x, y = pixel & 0xFFFF, pixel >> 16
            place = np.uintp(y * width + x)
            region = _joined(place, joins[neighbours[place]], ring, region_of, parent, extent, area)
            if region == 0:
                num_regions += 1
                region = np.uint32(num_regions)
                parent[region] = region
                extent[region, 1:4] = pixel  # no pixel as yet, and so no bounds
            region_of[place] = region
            _grow(extent, area, region, 1, pixel, x, y, x + 1, y + 1)
            if _exceeds(extent, region, top):  # the only region that has grown
                top = region
        if top:
            boxes[step - 1] = extent[top, 2:]
            largest[step - 1] = _best_iou(extent, top, true_boxes, 0.0)
            best[step - 1] = _best_of_all(extent, area, num_regions, true_boxes, smallest_area, largest[step - 1])
    return boxes, largest, best


@compiled
def _joined(
    place: int,
    joins: np.ndarray,
    ring: np.ndarray,
    region_of: np.ndarray,
    parent: np.ndarray,
    extent: np.ndarray,
    area: np.ndarray,
) -> np.uint32:
    """The region that the neighbours of a pixel become as it joins them; 0 without such neighbours.

    joins: (4,), the neighbours, as places in RING followed by NONE. ring: RING as offsets of places.
    """
    region = np.uint32(0)  # numba keeps one type through the loop
    for neighbour in joins:
        if neighbour == NONE:
            break
        region = _united(region, _root(parent, region_of[place + ring[neighbour]]), parent, extent, area)
    return region


@compiled
def _smallest_area(boxes: np.ndarray) -> float:
    """The area of the smallest of (n, 4) boxes; infinity without one."""
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return max(areas.min(), 0.0) if len(boxes) else np.inf


@compiled
def _best_of_all(
    extent: np.ndarray, area: np.ndarray, num_regions: int, true_boxes: np.ndarray, smallest_area: float, best: float
) -> float:
    """The best IoU of all regions' boxes with the true boxes, or `best` where that is greater."""
    for region in range(1, num_regions + 1):
        if area[region] > best * smallest_area:  # else it is too small for any true box: see _best_iou
            best = _best_iou(extent, region, true_boxes, best)
    return best


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
def _root(parent: np.ndarray, region: int) -> int:
    """The region that a region has become part of; halves the path there for later calls."""
    while parent[region] != region:
        parent[region] = parent[parent[region]]
        region = parent[region]
    return region


@compiled
def _united(first: int, second: int, parent: np.ndarray, extent: np.ndarray, area: np.ndarray) -> int:
    """The region that two become: the smaller is part of the larger from now on. first: 0 for none."""
    if first == 0 or first == second:
        return second
    if extent[first, 0] < extent[second, 0]:
        first, second = second, first
    parent[second], area[second] = first, 0
    part = extent[second]
    _grow(extent, area, first, part[0], part[1], part[2], part[3], part[4], part[5])
    return first


@compiled
def _grow(
    extent: np.ndarray, area: np.ndarray, region: int, size: int, first: int, x0: int, y0: int, x1: int, y1: int
) -> None:
    """Add pixels to a region's extent."""
    grown = extent[region]
    grown[0] += size
    grown[1], grown[2], grown[3] = min(grown[1], first), min(grown[2], x0), min(grown[3], y0)
    grown[4], grown[5] = max(grown[4], x1), max(grown[5], y1)
    area[region] = (grown[4] - grown[2]) * (grown[5] - grown[3])


@compiled
def _exceeds(extent: np.ndarray, first: int, second: int) -> bool:
    """Whether the first region has more pixels than the second, or as many and an earlier first pixel."""
    more = extent[first, 0] - extent[second, 0]
    return more > 0 or (more == 0 and extent[first, 1] < extent[second, 1])


@compiled
def _best_iou(extent: np.ndarray, region: int, true_boxes: np.ndarray, best: float) -> float:
    """The best IoU of a region's box with (n, 4) true boxes, or `best` where that is greater."""
    left, top, right, bottom = extent[region, 2], extent[region, 3], extent[region, 4], extent[region, 5]
    area = float(right - left) * float(bottom - top)
    for i in range(len(true_boxes)):
        x0, y0, x1, y1 = true_boxes[i, 0], true_boxes[i, 1], true_boxes[i, 2], true_boxes[i, 3]
        true_area = (x1 - x0) * (y1 - y0)
        if area > best * true_area:  # else it is too small: the intersection is no larger than the region's box
            width, height = min(right, x1) - max(left, x0), min(bottom, y1) - max(top, y0)
            shared = max(width, 0.0) * max(height, 0.0)
            best = max(best, shared / (area + true_area - shared))
    return best
