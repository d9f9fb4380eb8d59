"""Boxes around the contours of a map at every 8-bit threshold, as `cv2.findContours` and `cv2.boundingRect` give them.

A contour goes through the centres of the outer pixels of a region (8-connected), or of the pixels around a hole
(4-connected). No border is followed: regions are counted as pixels are added, see `union_find`. Compiled by numba:
import it when it is needed.
"""

from __future__ import annotations

import numpy as np

from axiom_bench.metrics.shared.cpu import compiled
from axiom_bench.metrics.shared.union_find import Rule, joins, sweep

THRESHOLDS = 255  # pixels above 0, 1, ... 254
# Twice the area in a region's outline: of each square between the centres of four pixels 1 where three of them are in
# the region, 2 where all are. So a pixel adds 1 for each of its squares in which two of the others, of RING, are.
SQUARES = ((0, 1, 2), (2, 3, 4), (4, 5, 6), (6, 7, 0))
TWICE_THE_AREA = np.array(
    [sum(sum(places >> i & 1 for i in square) >= 2 for square in SQUARES) for places in range(256)], np.uint8
)
# The map has a margin of one pixel. A contour's box ends one pixel behind its last pixel, but in the image.
OUTLINES = Rule(TWICE_THE_AREA, last_of_equals=True, near=0, far=1, margin=1)
HOLES = Rule(TWICE_THE_AREA, last_of_equals=True, near=1, far=1, margin=1)  # the contour is around them


def contour_ious(levels: np.ndarray, true_boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(largest (255,), best (255,)): IoU with the true boxes of the pixels above each of the levels 0, 1, ... 254.

    levels: (H, W) uint8. true_boxes: (n, 4) int64, x0 y0 x1 y1, the far edges inside the box. largest: the best IoU,
    over the true boxes, of the box around the contour that encloses the largest area; of equals that which
    cv2.findContours lists first. best: the best IoU over the boxes of all contours, those around holes too.
    A contour's box ends one pixel behind its last pixel, but in the image; where no pixel is above, it is the first
    pixel of the image. This is how wsolevaluation's compute_bboxes_from_scoremaps makes boxes.
    """
    padded = np.pad(levels, 1).astype(np.uint16)
    boxes = true_boxes.astype(float) + np.array([1, 1, 2, 2])  # in the padded map, with exclusive far edges
    # No contour inside of another encloses more, and it is listed later: only regions without holes can be the largest,
    # and of equals cv2.findContours lists the one that it found last.
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
    """The best IoU with true boxes (n, 4) of the map's first pixel, in the padded map; 0 without a true box."""
    is_inside = (boxes[:, :2] <= 1).all(1)
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return float((is_inside / areas).max(initial=0.0))


@compiled
def _filled(levels: np.ndarray) -> np.ndarray:
    """The map with its holes filled at every threshold: a pixel's new level is the lowest that a path along edges from
    outside of the map has to climb to.

    levels: (H, W) uint16 up to 255, with a margin of zeros. Pixels are reached from the lowest level up.
    """
    height, width = levels.shape
    neighbours = np.array([-width, 1, width, -1]).astype(np.uintp)
    level_of, is_reached = levels.ravel(), np.ones(levels.size, np.bool_)
    first = np.zeros(THRESHOLDS + 1, np.uint32)  # of the pixels that are reached at a level and wait there; 0: none
    following = np.empty(levels.size, np.uint32)
    for y in range(1, height - 1):
        for x in range(1, width - 1):
            place = np.uintp(y * width + x)
            is_reached[place] = y == 1 or y == height - 2 or x == 1 or x == width - 2
            if is_reached[place]:
                following[place], first[level_of[place]] = first[level_of[place]], place
    filled = level_of.copy()
    for level in range(THRESHOLDS + 1):
        while first[level]:
            place = np.uintp(first[level])
            first[level] = following[place]
            for neighbour in neighbours:
                other = place + neighbour
                if not is_reached[other]:
                    is_reached[other] = True
                    filled[other] = max(level, level_of[other])
                    following[other], first[filled[other]] = first[filled[other]], other
    return filled.reshape(levels.shape)
