"""Connected regions of a map at every threshold, in one pass over its pixels.

Pixels are added from the highest down, and their regions are joined (union-find). `sweep` boxes
regions. `contour_ious` boxes contours as `cv2.findContours` and `cv2.boundingRect` do. A contour
goes through the centres of a region's outer pixels (8-connected), or of the pixels around a hole
(4-connected). The functions are compiled by numba, so import this module only when it is needed.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np

from axiom_bench.metrics.shared.cpu import compiled

# The eight neighbours of a pixel in a ring, as (row, column) steps; those at even indices share an
# edge with it.
RING = ((-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1))
NONE = len(RING)


class Rule(NamedTuple):
    """The definition of a region's size and of its box."""

    gains: np.ndarray
    """(256,) uint8: what a pixel adds to its region's size, by the set of neighbours that were
    added before it (bit i: the i-th of RING)."""
    last_of_equals: bool
    """Of equally large regions, the largest is the one whose first pixel comes last if True, and
    the one whose first pixel comes first if False."""
    near: int
    """The number of pixels by which a box is larger than its region, on every side. A region whose
    box would begin outside of the map has none."""
    far: int
    """The number of further pixels that a box has at its far edges."""
    margin: int
    """The number of pixels at the map's far edges that no box reaches."""


class Boxing(NamedTuple):
    """The true boxes, and how a region's box is made."""

    true_boxes: np.ndarray
    """(n, 4) float64: x0 y0 x1 y1, far edges exclusive."""
    near: int
    """See `Rule`."""
    far: int
    """See `Rule`."""
    right: int
    """The largest right edge of a box."""
    bottom: int
    """The largest bottom edge of a box."""


# A region's size is its number of pixels, and its box is around them.
PIXELS = Rule(np.ones(256, np.uint8), last_of_equals=False, near=0, far=0, margin=0)
THRESHOLDS = 255  # pixels above 0, 1, ... 254
# Twice the area in a region's outline. A square between the centres of four pixels counts 1 if
# three of them are in the region, and 2 if all are. A pixel therefore adds 1 for each of its
# squares in which two of the others, of RING, are.
SQUARES = ((0, 1, 2), (2, 3, 4), (4, 5, 6), (6, 7, 0))


def _full_squares(neighbours: int) -> int:
    """Count the squares in which two or more of a pixel's neighbours are."""
    return sum(sum(neighbours >> i & 1 for i in square) >= 2 for square in SQUARES)


TWICE_THE_AREA = np.array([_full_squares(neighbours) for neighbours in range(256)], np.uint8)
# The map has a margin of one pixel. A contour's box ends one pixel behind its last pixel, but
# inside the image.
OUTLINES = Rule(TWICE_THE_AREA, last_of_equals=True, near=0, far=1, margin=1)
# The contour is around a hole.
HOLES = Rule(TWICE_THE_AREA, last_of_equals=True, near=1, far=1, margin=1)


@cache
def joins(connectivity: int) -> np.ndarray:
    """Return the neighbours whose regions a pixel joins, for each set of neighbours above it.

    Neighbours that touch each other are of one region already, so one of them is enough. A pixel
    mostly joins a single region.

    Args:
        connectivity: 8 if pixels that touch at a corner are connected, otherwise 4.

    Returns:
        The neighbours, (256, 4) uint8, as indices in RING followed by NONE. A row is the set of
        neighbours that are above the threshold (bit i: the i-th of RING).
    """
    table = np.full((256, 4), NONE, np.uint8)
    for neighbours in range(256):
        remaining = [i for i in range(8) if neighbours >> i & 1]
        count = 0
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
    """Return whether the i-th and the j-th neighbour touch each other."""
    rows = abs(RING[i][0] - RING[j][0])
    columns = abs(RING[i][1] - RING[j][1])
    return max(rows, columns) == 1 if connectivity == 8 else rows + columns == 1


@compiled
def sweep(
    steps: np.ndarray, count: int, joins: np.ndarray, true_boxes: np.ndarray, rule: Rule
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Box one map's regions above each of T = count ascending thresholds.

    Args:
        steps: How many of the thresholds each pixel is above, (H, W) uint16; sides below 32,768.
        count: The number of thresholds.
        joins: The table of `joins(connectivity)`.
        true_boxes: The true boxes, (n, 4) float64.
        rule: The definition of a region's size and box.

    Returns:
        The box of the largest region, (T, 4) int32: x0 y0 x1 y1, far edges exclusive, or zeros if
        no pixel is above. Its best IoU with a true box, (T,). The best IoU of all regions' boxes,
        (T,). IoU are 0 without a box.
    """
    height, width = steps.shape
    # RING as offsets. Indices are unsigned, because numba checks of any other index whether it
    # counts from the end.
    offsets = np.array([-width, 1 - width, 1, 1 + width, width, width - 1, -1, -1 - width])
    ring = offsets.astype(np.uintp)
    starts, order = _by_step(steps, count)
    neighbours = _higher_neighbours(steps)
    # The region of each pixel that has been added. Regions are numbered from 1.
    region_of = np.empty(steps.size, np.uint32)
    # A region that has become part of another points to it.
    parent = np.zeros(steps.size + 1, np.uint32)
    extent = np.zeros((steps.size + 1, 6), np.int32)  # size, first pixel, x0, y0, x1, y1
    # The step at which a region's extent became what it is.
    since = np.zeros(steps.size + 1, np.int32)
    boxing = Boxing(true_boxes, rule.near, rule.far, width - rule.margin, height - rule.margin)
    num_regions = np.int64(0)
    top = np.uint32(0)  # the largest region
    boxes = np.zeros((count, 4), np.int32)
    largest = np.zeros(count)
    highest = nothing_raised(count)
    for step in range(count, 0, -1):
        top_is_valid = True
        for pixel in order[starts[step] : starts[step + 1]]:
            x = pixel & 0xFFFF
            y = pixel >> 16
            first = extent[top, 1]
            index = np.uintp(y * width + x)
            region = np.uint32(0)
            for neighbour in joins[neighbours[index]]:
                if neighbour == NONE:
                    break
                other = _root(parent, region_of[index + ring[neighbour]])
                if since[other] != step:
                    # The region changes or ends, so its box was valid down to this step.
                    raise_range(highest, step, since[other] - 1, _iou(extent, other, boxing))
                    since[other] = step
                region = _united(region, other, parent, extent)
            if region == 0:
                num_regions += 1
                region = np.uint32(num_regions)
                parent[region] = region
                since[region] = step
                # Its size is 0 and its bounds are larger than any, until the pixel is added.
                for bound in range(1, 4):
                    extent[region, bound] = pixel
            region_of[index] = region
            _grow(extent, region, rule.gains[neighbours[index]], pixel, x, y, x + 1, y + 1)
            # No other region has grown. If the largest one has become part of this one, or begins
            # elsewhere now, another region may be the largest.
            if _exceeds(extent, region, top, rule.last_of_equals):
                top = region
            elif parent[top] != top or extent[top, 1] != first:
                top_is_valid = False
        if not top_is_valid:
            top = _largest(extent, parent, num_regions, rule.last_of_equals)
        if top:
            box = boxes[step - 1]
            box[0], box[1], box[2], box[3] = _box(extent, top, boxing)
            largest[step - 1] = _iou(extent, top, boxing)
    for number in range(1, num_regions + 1):
        last = np.uint32(number)
        if parent[last] == last:
            raise_range(highest, 0, since[last] - 1, _iou(extent, last, boxing))
    return boxes, largest, raised_values(highest)


@compiled
def _largest(
    extent: np.ndarray, parent: np.ndarray, num_regions: int, last_of_equals: bool
) -> np.uint32:
    """Return the largest of all regions that aren't part of another."""
    top = np.uint32(0)
    for number in range(1, num_regions + 1):
        region = np.uint32(number)
        if parent[region] == region and _exceeds(extent, region, top, last_of_equals):
            top = region
    return top


@compiled
def _by_step(steps: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the pixels in the order of their steps, and where each step starts.

    The pixels of step s are order[starts[s]:starts[s + 1]], each as y << 16 | x, in reading order.
    """
    height, width = steps.shape
    starts = np.zeros(count + 2, np.int64)
    for y in range(height):
        for x in range(width):
            starts[steps[y, x] + 1] += 1
    for step in range(count + 1):
        starts[step + 1] += starts[step]
    free = starts.copy()
    order = np.empty(steps.size, np.int32)
    for y in range(height):
        for x in range(width):
            order[free[steps[y, x]]] = y << 16 | x
            free[steps[y, x]] += 1
    return starts, order


@compiled
def _higher_neighbours(steps: np.ndarray) -> np.ndarray:
    """Return which neighbours are added before each pixel, (H W,) uint8 with bit i for RING[i].

    A neighbour is added before if it is higher, or as high and earlier in reading order. Computing
    all pixels at once is quicker than each pixel when it is added.
    """
    height, width = steps.shape
    padded = np.zeros((height + 2, width + 2), np.uint16)
    for y in range(height):
        for x in range(width):
            padded[y + 1, x + 1] = steps[y, x]
    higher = np.zeros((height, width), np.uint8)
    for i, (down, right) in enumerate(RING):
        bit = np.uint8(1 << i)
        earlier = (down, right) < (0, 0)
        for y in range(height):
            pixels = steps[y]
            neighbours = padded[y + 1 + down, 1 + right : 1 + right + width]
            row = higher[y]
            for x in range(width):  # no branches, so that the processor takes many pixels at once
                if (neighbours[x] > pixels[x]) | (earlier & (neighbours[x] == pixels[x])):
                    row[x] |= bit
    return higher.ravel()


@compiled
def _root(parent: np.ndarray, region: np.uint32) -> np.uint32:
    """Return the region that a region has become part of, and halve the path for later calls."""
    while parent[region] != region:
        parent[region] = parent[parent[region]]
        region = parent[region]
    return region


@compiled
def _united(
    first: np.uint32, second: np.uint32, parent: np.ndarray, extent: np.ndarray
) -> np.uint32:
    """Make the smaller of two regions part of the larger, and return it; `first` is 0 for none."""
    if first == 0 or first == second:
        return second
    if extent[first, 0] < extent[second, 0]:
        first, second = second, first
    parent[second] = first
    part = extent[second]
    _grow(extent, first, part[0], part[1], part[2], part[3], part[4], part[5])
    return first


@compiled
def _grow(
    extent: np.ndarray, region: int, size: int, first: int, x0: int, y0: int, x1: int, y1: int
) -> None:
    """Add pixels to a region's extent."""
    grown = extent[region]
    grown[0] += size
    grown[1] = min(grown[1], first)
    grown[2] = min(grown[2], x0)
    grown[3] = min(grown[3], y0)
    grown[4] = max(grown[4], x1)
    grown[5] = max(grown[5], y1)


@compiled
def _exceeds(extent: np.ndarray, first: int, second: int, last_of_equals: bool) -> bool:
    """Return whether the first region is larger, or as large and comes first by its first pixel."""
    more = extent[first, 0] - extent[second, 0]
    later = extent[first, 1] - extent[second, 1]
    comes_later: bool = more > 0 or (more == 0 and (later > 0 if last_of_equals else later < 0))
    return comes_later


@compiled
def _box(extent: np.ndarray, region: int, boxing: Boxing) -> tuple[int, int, int, int]:
    """Return x0 y0 x1 y1 of a region's box, or zeros if it would begin outside of the map."""
    left = extent[region, 2] - boxing.near
    top = extent[region, 3] - boxing.near
    if left < 0 or top < 0:
        return 0, 0, 0, 0
    further = boxing.near + boxing.far
    return (
        left,
        top,
        min(extent[region, 4] + further, boxing.right),
        min(extent[region, 5] + further, boxing.bottom),
    )


@compiled
def _iou(extent: np.ndarray, region: int, boxing: Boxing) -> float:
    """Return the best IoU of a region's box with the true boxes, or 0 if either is missing."""
    left, top, right, bottom = _box(extent, region, boxing)
    area = float(right - left) * float(bottom - top)
    best = 0.0
    for i in range(len(boxing.true_boxes)):
        x0 = boxing.true_boxes[i, 0]
        y0 = boxing.true_boxes[i, 1]
        x1 = boxing.true_boxes[i, 2]
        y1 = boxing.true_boxes[i, 3]
        true_area = (x1 - x0) * (y1 - y0)
        # Otherwise the box is too small, since the intersection is no larger than the box.
        if area > best * true_area:
            width = min(right, x1) - max(left, x0)
            height = min(bottom, y1) - max(top, y0)
            shared = max(width, 0.0) * max(height, 0.0)
            best = max(best, shared / (area + true_area - shared))
    return best


@compiled
def nothing_raised(count: int) -> np.ndarray:
    """Return a table for `count` entries, all at 0.

    Args:
        count: The number of entries.

    Returns:
        The table. Row i, column j is for the 2^i entries from j on.
    """
    rows = 1
    while 1 << rows <= count:
        rows += 1
    return np.zeros((rows, count))


@compiled
def raise_range(table: np.ndarray, first: int, last: int, value: float) -> None:
    """Raise the entries from first to last, both included, to at least a value.

    Args:
        table: The table of `nothing_raised`. Two powers of two cover the entries.
        first: The first entry.
        last: The last entry.
        value: The value.
    """
    row = 0
    while 2 << row <= last - first + 1:
        row += 1
    for entry in (first, last + 1 - (1 << row)):
        table[row, entry] = max(table[row, entry], value)


@compiled
def raised_values(table: np.ndarray) -> np.ndarray:
    """Return the value that each entry was raised to, and overwrite the table.

    Args:
        table: The table of `nothing_raised`.

    Returns:
        The values, (count,).
    """
    for row in range(len(table) - 1, 0, -1):
        half = 1 << (row - 1)
        for first in range(table.shape[1] + 1 - 2 * half):
            for entry in (first, first + half):
                table[row - 1, entry] = max(table[row - 1, entry], table[row, first])
    first_row: np.ndarray = table[0]
    return first_row


def contour_ious(levels: np.ndarray, true_boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the IoU of contours' boxes with the true boxes at 255 thresholds.

    This is how compute_bboxes_from_scoremaps of wsolevaluation makes boxes. A contour's box ends
    one pixel after its last pixel, but inside the image. If no pixel is above, the box is the
    first pixel of the image.

    Args:
        levels: The map, (H, W) uint8, whose pixels above 0, 1, ... 254 are boxed.
        true_boxes: The true boxes, (n, 4) int64: x0 y0 x1 y1, the far edges inside the box.

    Returns:
        The best IoU, over the true boxes, of the box around the contour that encloses the largest
        area, (255,). Of equals, the one that cv2.findContours lists first counts. Then the best IoU
        over the boxes of all contours, those around holes too, (255,).
    """
    padded = np.pad(levels, 1).astype(np.uint16)
    # The boxes in the padded map, with exclusive far edges.
    boxes = true_boxes.astype(float) + np.array([1, 1, 2, 2])
    # A contour inside of another doesn't enclose more and is listed later, so holes don't matter to
    # the largest. Of equals, cv2.findContours lists first the one that it found last.
    filled = _filled(padded)
    _, largest, best = sweep(filled, THRESHOLDS, joins(8), boxes, OUTLINES)
    if (filled != padded).any():
        _, _, best = sweep(padded, THRESHOLDS, joins(8), boxes, OUTLINES)
        _, _, around_holes = sweep(THRESHOLDS - padded, THRESHOLDS, joins(4), boxes, HOLES)
        best = np.maximum(best, around_holes[::-1])
    first_pixel = _iou_of_first_pixel(boxes)
    is_empty = np.arange(THRESHOLDS) >= levels.max()
    return np.where(is_empty, first_pixel, largest), np.where(is_empty, first_pixel, best)


def _iou_of_first_pixel(boxes: np.ndarray) -> float:
    """Return the best IoU of the padded map's first image pixel with true boxes; 0 without any."""
    is_inside = (boxes[:, :2] <= 1).all(1)
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return float((is_inside / areas).max(initial=0.0))


@compiled
def _filled(levels: np.ndarray) -> np.ndarray:
    """Fill the holes of a map, (H, W) uint16 with a margin of zeros, at every threshold.

    A pixel's new level is the lowest that a path along edges from outside of the map has to climb
    to. Levels are up to 255.
    """
    height, width = levels.shape
    neighbours = np.array([-width, 1, width, -1]).astype(np.uintp)
    level_of = levels.ravel()
    is_reached = np.ones(levels.size, np.bool_)
    # Pixels are reached from the lowest level up. Those that are reached at a level wait there in a
    # linked list: `first` of the level, and `following` of each pixel. 0 ends a list.
    first = np.zeros(THRESHOLDS + 1, np.uint32)
    following = np.empty(levels.size, np.uint32)
    for y in range(1, height - 1):
        for x in range(1, width - 1):
            index = np.uintp(y * width + x)
            is_reached[index] = y == 1 or y == height - 2 or x == 1 or x == width - 2
            if is_reached[index]:
                following[index] = first[level_of[index]]
                first[level_of[index]] = index
    filled = level_of.copy()
    for level in range(THRESHOLDS + 1):
        while first[level]:
            index = np.uintp(first[level])
            first[level] = following[index]
            for neighbour in neighbours:
                other = index + neighbour
                if not is_reached[other]:
                    is_reached[other] = True
                    filled[other] = max(level, level_of[other])
                    following[other] = first[filled[other]]
                    first[filled[other]] = other
    return filled.reshape(levels.shape)
