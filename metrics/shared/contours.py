"""Boxes around the contours of a map at every 8-bit threshold, as `cv2.findContours` and `cv2.boundingRect` give them.

Border following with the contours' hierarchy: Suzuki and Abe, Topological Structural Analysis of Digitized Binary
Images by Border Following, CVGIP 30, 1985, appendix I (algorithm 1). Compiled by numba: import it when it is needed.
"""

from __future__ import annotations

import numpy as np

from axiom_bench.metrics.shared.compiled import compiled

THRESHOLDS = 255  # pixels above 0, 1, ... 254
# The eight neighbours of a pixel, counter-clockwise from the right in an image whose rows run downwards.
ROWS = np.array([0, -1, -1, -1, 0, 1, 1, 1])
COLUMNS = np.array([1, 1, 0, -1, -1, -1, 0, 1])
RIGHT, LEFT, NONE = 0, 4, 8
FRAME = 1  # the number of the border that encloses the image; contours are numbered from 2


@compiled
def contour_ious(levels: np.ndarray, true_boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(largest (255,), best (255,)): IoU with the true boxes of the pixels above each of the levels 0, 1, ... 254.

    levels: (H, W) uint8. true_boxes: (n, 4) int64, x0 y0 x1 y1, the far edges inside the box. largest: the best IoU,
    over the true boxes, of the box around the contour that encloses the largest area; of equals that which
    cv2.findContours lists first. best: the best IoU over the boxes of all contours, those around holes too.
    A contour's box ends one pixel behind its last pixel, but in the image; where no pixel is above, it is the first
    pixel of the image. This is how wsolevaluation's compute_bboxes_from_scoremaps makes boxes.
    """
    height, width = levels.shape
    padded = np.zeros((height + 2, width + 2), np.uint8)
    padded[1:-1, 1:-1] = levels
    starts, border = _border_pixels(padded)
    labels = np.ones((height + 2, width + 2), np.int32)  # of pixels above the level; those of others are not read
    contours = np.empty((levels.size + FRAME + 1, 5), np.int64)  # first x, first y, last x, last y, twice the area
    tree = np.empty((levels.size + FRAME + 1, 4), np.int64)  # parent, first child, next sibling, whether it is a hole
    largest, best = np.zeros(THRESHOLDS), np.zeros(THRESHOLDS)
    for level in range(THRESHOLDS):
        last = _find_contours(padded, level, border[starts[level] : starts[level + 1]], labels, contours, tree)
        if last == FRAME:
            largest[level] = best[level] = _best_iou(0, 0, 0, 0, true_boxes)
            continue
        for contour in range(FRAME + 1, last + 1):
            best[level] = max(best[level], _contour_iou(contours[contour], height, width, true_boxes))
        first = _first_of_largest_area(contours, tree)
        largest[level] = _contour_iou(contours[first], height, width, true_boxes)
    return largest, best


@compiled
def _border_pixels(padded: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(starts (256,), pixels): pixels[starts[l]:starts[l + 1]] are those above level l that share an edge with one that
    isn't, as y << 16 | x in reading order. Contours consist of them alone.

    padded: (H + 2, W + 2) uint8, the map with a margin of zeros.
    """
    height, width = padded.shape
    starts = np.zeros(THRESHOLDS + 1, np.int64)
    for y in range(1, height - 1):
        for x in range(1, width - 1):
            for level in range(_lowest_neighbour(padded, y, x), padded[y, x]):
                starts[level + 1] += 1
    starts = np.cumsum(starts)
    free, pixels = starts.copy(), np.empty(starts[-1], np.int32)
    for y in range(1, height - 1):
        for x in range(1, width - 1):
            for level in range(_lowest_neighbour(padded, y, x), padded[y, x]):
                pixels[free[level]] = y << 16 | x
                free[level] += 1
    return starts, pixels


@compiled
def _lowest_neighbour(padded: np.ndarray, y: int, x: int) -> int:
    return min(padded[y - 1, x], padded[y + 1, x], padded[y, x - 1], padded[y, x + 1])


@compiled
def _find_contours(
    padded: np.ndarray, level: int, border: np.ndarray, labels: np.ndarray, contours: np.ndarray, tree: np.ndarray
) -> int:
    """The number of the last contour of the pixels above a level; fills `contours` and `tree`.

    border: the level's pixels of `_border_pixels`. labels: overwritten there.
    """
    for pixel in border:
        labels[pixel >> 16, pixel & 0xFFFF] = 1
    number, row, enclosing = FRAME, 0, FRAME  # enclosing: the last border that the scan of a row has met
    tree[FRAME, 0], tree[FRAME, 1], tree[FRAME, 2], tree[FRAME, 3] = 0, 0, 0, 1
    for pixel in border:
        y, x = pixel >> 16, pixel & 0xFFFF
        if y != row:
            row, enclosing = y, FRAME
        label = labels[y, x]
        is_outer = label == 1 and padded[y, x - 1] <= level
        is_hole = not is_outer and label >= 1 and padded[y, x + 1] <= level
        if is_outer or is_hole:
            if is_hole and label > 1:
                enclosing = label
            number += 1
            _add_to_tree(tree, number, enclosing, is_hole)
            _follow(padded, level, labels, y, x, LEFT if is_outer else RIGHT, number, contours[number])
        if labels[y, x] != 1:
            enclosing = abs(labels[y, x])
    return number


@compiled
def _add_to_tree(tree: np.ndarray, number: int, enclosing: int, is_hole: bool) -> None:
    """A contour's parent is of the other kind; a new child comes before its elder siblings, as OpenCV lists them."""
    parent = tree[enclosing, 0] if tree[enclosing, 3] == is_hole else enclosing
    tree[number, 0], tree[number, 1], tree[number, 2], tree[number, 3] = parent, 0, tree[parent, 1], is_hole
    tree[parent, 1] = number


@compiled
def _follow(
    padded: np.ndarray,
    level: int,
    labels: np.ndarray,
    y: int,
    x: int,
    outside: int,
    number: int,
    contour: np.ndarray,
) -> None:
    """Follow the border that starts at a pixel, mark its pixels with its number, and fill its row of `contours`.

    outside: the direction of a neighbour of the pixel that is on the other side of the border.
    """
    contour[0], contour[1], contour[2], contour[3], contour[4] = x - 1, y - 1, x - 1, y - 1, 0
    direction = _first_neighbour(padded, level, y, x, outside)
    if direction == NONE:
        labels[y, x] = -number  # a single pixel
        return
    end_y, end_x = y + ROWS[direction], x + COLUMNS[direction]
    here_y, here_x, doubled_area = y, x, 0
    while True:
        right_is_outside = False
        while True:  # counter-clockwise from the pixel that the border comes from
            direction = (direction + 1) & 7
            if padded[here_y + ROWS[direction], here_x + COLUMNS[direction]] > level:
                break
            right_is_outside = right_is_outside or direction == RIGHT
        if right_is_outside:
            labels[here_y, here_x] = -number
        elif labels[here_y, here_x] == 1:
            labels[here_y, here_x] = number
        next_y, next_x = here_y + ROWS[direction], here_x + COLUMNS[direction]
        doubled_area += here_x * next_y - next_x * here_y
        contour[0], contour[1] = min(contour[0], here_x - 1), min(contour[1], here_y - 1)
        contour[2], contour[3] = max(contour[2], here_x - 1), max(contour[3], here_y - 1)
        if next_y == y and next_x == x and here_y == end_y and here_x == end_x:
            break
        direction = (direction + 4) & 7  # back to where the border comes from, seen from the next pixel
        here_y, here_x = next_y, next_x
    contour[4] = abs(doubled_area)


@compiled
def _first_neighbour(padded: np.ndarray, level: int, y: int, x: int, outside: int) -> int:
    """The direction of the first neighbour above the level, clockwise from `outside`; NONE without one."""
    for turn in range(8):
        direction = (outside - turn) & 7
        if padded[y + ROWS[direction], x + COLUMNS[direction]] > level:
            return direction
    return NONE


@compiled
def _first_of_largest_area(contours: np.ndarray, tree: np.ndarray) -> int:
    """The contour of the largest area; of equals the first in the order parent, children, next sibling."""
    contour = first = tree[FRAME, 1]
    while contour != FRAME:
        if contours[contour, 4] > contours[first, 4]:
            first = contour
        if tree[contour, 1] != 0:
            contour = tree[contour, 1]
            continue
        while contour != FRAME and tree[contour, 2] == 0:
            contour = tree[contour, 0]
        if contour != FRAME:
            contour = tree[contour, 2]
    return int(first)


@compiled
def _contour_iou(contour: np.ndarray, height: int, width: int, true_boxes: np.ndarray) -> float:
    x1, y1 = min(contour[2] + 1, width - 1), min(contour[3] + 1, height - 1)
    return _best_iou(contour[0], contour[1], x1, y1, true_boxes)


@compiled
def _best_iou(x0: int, y0: int, x1: int, y1: int, true_boxes: np.ndarray) -> float:
    """The best IoU of a box with the true boxes; the far edges are inside. 0 without a true box."""
    best = 0.0
    area = (x1 - x0 + 1) * (y1 - y0 + 1)
    for i in range(len(true_boxes)):
        left, top, right, bottom = true_boxes[i, 0], true_boxes[i, 1], true_boxes[i, 2], true_boxes[i, 3]
        width, height = min(x1, right) - max(x0, left) + 1, min(y1, bottom) - max(y0, top) + 1
        shared = max(0, width) * max(0, height)
        best = max(best, shared / (area + (right - left + 1) * (bottom - top + 1) - shared))
    return best
