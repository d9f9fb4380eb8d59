"""Maps, boxes and pixels as the code of Choe et al., CVPR 2020, arXiv:2001.07437, measures them.

github.com/clovaai/wsolevaluation at commit 96f4b88: `inference.py` makes a score map of a raw map, `evaluation.py`
compares score maps with boxes and masks. Every rounding of that code is followed, so that values are equal to the last
digit; OpenCV's resize and contours are reimplemented.
"""

from __future__ import annotations

import numpy as np

from axiom_bench.explanation.explanation import Explanation, given
from axiom_bench.metrics.shared.cpu import in_threads
from axiom_bench.metrics.shared.rounding import widened
from axiom_bench.metrics.shared.threshold_sweep import counted_pixels

FRACTIONS = np.arange(0, 1, 0.001)  # the thresholds, as fractions of the maximum
LEVELS = (FRACTIONS * 255).astype(int)  # what they are on an 8-bit map: several fractions are one level
THRESHOLDS = tuple(float(FRACTIONS[place]) for place in np.unique(LEVELS, return_index=True)[1])  # 255
BIN_EDGES = np.append(FRACTIONS, [1.0, np.inf])  # of the histograms of pixels; the last bin is of the maximum alone
BINS = len(BIN_EDGES) - 1
CUBIC = np.float32(-0.75)  # the parameter of OpenCV's cubic interpolation


def score_maps(explanation: Explanation) -> np.ndarray:
    """Score maps in [0, 1], (B, H', W') float64; computed once.

    The signed raw map is resized to the heatmap's size by OpenCV's cubic interpolation, its minimum subtracted, and
    divided by its maximum; a constant map, and one with a value that isn't finite, becomes zero. An explanation without
    a raw map has the heatmap in its place.
    """
    return explanation.once("wsol score maps", lambda: _score_maps(explanation))


def box_curves(explanation: Explanation) -> tuple[np.ndarray, np.ndarray]:
    """(largest (B, 255), best (B, 255)): IoU with the class's boxes above each of THRESHOLDS; computed once.

    See `contours.contour_ious`; NaN without a true box.
    """
    return explanation.once("wsol boxes", lambda: _box_curves(explanation))


def pixel_counts(explanation: Explanation) -> tuple[np.ndarray, np.ndarray]:
    """(above (B, 1001), hit (B, 1001)): pixels at the maximum, at least 0.999, 0.998, ... 0; and those in the mask.

    Ignored pixels don't count. Computed once.
    """
    return explanation.once("wsol pixels", lambda: _pixel_counts(explanation))


def resize_cubic(raw_map: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """cv2.resize(..., interpolation=cv2.INTER_CUBIC) of a float64 map, bit by bit: (h, w) -> size."""
    (rows, row_weights), (columns, column_weights) = map(_taps, raw_map.shape, size)
    wide = sum(raw_map[:, columns[i]] * column_weights[i] for i in range(4))
    resized: np.ndarray = sum(wide[rows[i]] * row_weights[i][:, None] for i in range(4))
    return resized


def inclusive_boxes(boxes: np.ndarray, stored_pixel: tuple[float, float]) -> np.ndarray:
    """Boxes whose last pixel is inside, cut to whole pixels: (n, 4) float -> (n, 4) int64.

    A box of the annotations ends with a pixel of the stored image, which is moved to the image's size and cut there
    (`resize_bbox`). boxes: far edges exclusive. stored_pixel: width and height of a stored image's pixel.
    """
    last = boxes[:, 2:] - np.array(stored_pixel)
    corners = np.floor(np.concatenate([boxes[:, :2], last], 1) + 1e-4)  # of float32; the next fraction is 1 / width
    return np.concatenate([corners[:, :2], np.maximum(corners[:, 2:], corners[:, :2])], 1).astype(np.int64)


def _score_maps(explanation: Explanation) -> np.ndarray:
    heatmap = given(explanation.heatmap, "heatmap")
    raw_maps = heatmap if explanation.raw_map is None else explanation.raw_map
    size = (heatmap.shape[1], heatmap.shape[2])
    return np.stack([_score_map(raw_map, size) for raw_map in widened(raw_maps.detach()).cpu().double().numpy()])


def _score_map(raw_map: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    with np.errstate(invalid="ignore", over="ignore"):
        resized = resize_cubic(raw_map, size)
        low = resized.min()
        extent = resized.max() - low  # not finite where a value isn't
    if not np.isfinite(extent) or extent == 0:
        return np.zeros(size)
    score_map: np.ndarray = (resized - low) / extent
    return score_map


def _taps(length: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """(places (4, size), weights (4, size)) of the four pixels that each resized pixel is made of, along one side.

    The weights are float32, as OpenCV computes them; pixels beyond the edge are those of the edge.
    """
    centres = ((np.arange(size) + 0.5) * (length / size) - 0.5).astype(np.float32)
    first = np.floor(centres)
    x, one = centres - first, np.float32(1)
    y = one - x
    far = ((CUBIC * (x + one) - 5 * CUBIC) * (x + one) + 8 * CUBIC) * (x + one) - 4 * CUBIC
    near = [((CUBIC + 2) * near - (CUBIC + 3)) * near * near + one for near in (x, y)]
    weights = np.stack([far, *near, one - far - near[0] - near[1]])
    places = first.astype(int) + np.arange(-1, 3)[:, None]
    return places.clip(0, length - 1), weights.astype(np.float64)


def _box_curves(explanation: Explanation) -> tuple[np.ndarray, np.ndarray]:
    from axiom_bench.metrics.shared.contours import contour_ious  # here, because numba takes a third of a second

    boxes = given(explanation.boxes, "boxes")
    stored_pixels = explanation.stored_pixels or ((1.0, 1.0),) * len(boxes)
    levels = (score_maps(explanation) * 255).astype(np.uint8)
    inclusive = [
        inclusive_boxes(true_boxes.detach().cpu().double().numpy(), pixel)
        for true_boxes, pixel in zip(boxes, stored_pixels, strict=True)
    ]
    curves = in_threads(contour_ious, levels, inclusive)
    missing = np.array([[len(true_boxes) == 0] for true_boxes in boxes])
    largest, best = (np.where(missing, np.nan, np.stack(part)) for part in zip(*curves, strict=True))
    return largest, best


def _pixel_counts(explanation: Explanation) -> tuple[np.ndarray, np.ndarray]:
    masks = given(explanation.masks, "masks").cpu().numpy()
    counts = []
    for score_map, mask, counted in zip(score_maps(explanation), masks, counted_pixels(explanation), strict=True):
        bins = 2 * _bins(score_map) + mask
        counts.append(np.bincount(bins[counted], minlength=2 * BINS).reshape(BINS, 2))
    other, hit = np.moveaxis(np.array(counts)[:, ::-1].cumsum(1), 2, 0)
    return hit + other, hit


def _bins(score_map: np.ndarray) -> np.ndarray:
    """The bin of each pixel: BIN_EDGES[bin] <= score < BIN_EDGES[bin + 1]. A search would take five times as long."""
    bins = (score_map * len(FRACTIONS)).astype(np.int64)  # or a neighbour, where the product was rounded
    bins -= score_map < BIN_EDGES[bins]
    bins += score_map >= BIN_EDGES[bins + 1]
    return bins
