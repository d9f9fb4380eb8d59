"""The two protocols of localization over a data set: of the published code ("wsol"), and of the
heatmap as shown.

The published code is that of Choe et al., CVPR 2020, arXiv:2001.07437:
github.com/clovaai/wsolevaluation at commit 96f4b88. Its `inference.py` makes a score map of a raw
map and its `evaluation.py` compares score maps with boxes and masks. Every rounding of that code is
followed, so that values are equal to the last digit; OpenCV's resize and contours are
reimplemented.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from axiom_bench.cutting.threads import in_threads
from axiom_bench.errors import BenchError, unknown
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.shared import threshold_sweep
from axiom_bench.metrics.shared.rounding import widened
from axiom_bench.metrics.shared.threshold_sweep import counts_from_the_top

Protocol = Literal["wsol", "heatmap"]
FRACTIONS = np.arange(0, 1, 0.001)  # wsol's thresholds, as fractions of the maximum
LEVELS = (FRACTIONS * 255).astype(
    int
)  # what they are on an 8-bit map: several fractions are one level
THRESHOLDS = tuple(
    float(FRACTIONS[place]) for place in np.unique(LEVELS, return_index=True)[1]
)  # 255
BIN_EDGES = np.append(
    FRACTIONS, [1.0, np.inf]
)  # of the histograms of pixels; the last bin is of the maximum alone
BINS = len(BIN_EDGES) - 1
CUBIC = np.float32(-0.75)  # the parameter of OpenCV's cubic interpolation


def box_curves(
    explanation: Explanation, protocol: Protocol, connectivity: int
) -> tuple[np.ndarray, np.ndarray]:
    """(largest (B, T), best (B, T)): IoU of the largest region's box, and the best of all regions'
    boxes, at each of `thresholds(protocol)`; 0 where nothing is above, NaN without a true box.
    Computed once.

    wsol's boxes are those of `union_find.contour_ious`.
    Raises BenchError for another protocol, and for a connectivity that the protocol doesn't have.
    """
    check(protocol)
    if protocol == "heatmap":
        boxes = threshold_sweep.boxes_above(explanation, connectivity)
        return boxes.iou, boxes.best_iou
    if connectivity != 8:
        raise BenchError(
            f"The wsol protocol has connectivity 8, not {connectivity!r}; set protocol=heatmap "
            "for another."
        )
    return explanation.once("wsol boxes", lambda: _box_curves(explanation))


def thresholds(protocol: Protocol) -> tuple[float, ...]:
    """Fractions of the maximum, ascending: 255 levels of an 8-bit map under wsol, 0, 0.01, ... 0.99
    of the heatmap.
    """
    return THRESHOLDS if protocol == "wsol" else threshold_sweep.FRACTIONS


def pixel_counts(explanation: Explanation, protocol: Protocol) -> tuple[np.ndarray, np.ndarray]:
    """(above (B, T), hit (B, T)): pixels above each threshold, highest first, the last of all;
    those in the mask.

    wsol: pixels at the maximum, at least 0.999, 0.998, ... 0 (T = 1001). Pixels without a verdict
    don't count. Computed once. Raises BenchError for another protocol.
    """
    check(protocol)
    if protocol == "wsol":
        return explanation.once(
            "wsol pixels",
            lambda: counts_from_the_top(explanation, map(_bins, score_maps(explanation)), BINS),
        )
    pixels = threshold_sweep.pixels_above(explanation)
    return pixels.above, pixels.hit


def check(protocol: str) -> None:
    """Raises BenchError for a name that is no protocol."""
    if protocol not in ("wsol", "heatmap"):
        raise unknown("protocol", protocol, ("wsol", "heatmap"))


def total(points: np.ndarray, counts: np.ndarray | None = None) -> np.ndarray:
    """The sum over rows, (N, n) -> (R, n), or (n,) without counts.

    counts: (R, N), how often each of the N rows is drawn in each of R resamples; None: each row
    once. Sums over many resamples at once are one product of matrices.
    """
    answer: np.ndarray = points.sum(0) if counts is None else counts @ points.astype(np.float64)
    return answer


def mean(points: np.ndarray, counts: np.ndarray | None = None) -> np.ndarray:
    """The mean over rows, (N, n) -> (R, n), or (n,) without counts; see `total`."""
    return total(points, counts) / (len(points) if counts is None else counts.sum(1, keepdims=True))


def score_maps(explanation: Explanation) -> np.ndarray:
    """wsol's score maps in [0, 1], (B, H', W') float64; computed once.

    The signed raw map is resized to the heatmap's size by OpenCV's cubic interpolation, its minimum
    subtracted, and divided by its maximum; a constant map, and one with a value that isn't finite,
    becomes zero. An explanation without a raw map has the heatmap in its place.
    """
    return explanation.once("wsol score maps", lambda: _score_maps(explanation))


def resize_cubic(raw_map: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """cv2.resize(..., interpolation=cv2.INTER_CUBIC) of a float64 map, bit by bit: (h, w) ->
    size.
    """
    (rows, row_weights), (columns, column_weights) = map(_taps, raw_map.shape, size)
    wide = sum(raw_map[:, columns[i]] * column_weights[i] for i in range(4))
    resized: np.ndarray = sum(wide[rows[i]] * row_weights[i][:, None] for i in range(4))
    return resized


def inclusive_boxes(boxes: np.ndarray, stored_pixel: tuple[float, ...]) -> np.ndarray:
    """Boxes whose last pixel is inside, cut to whole pixels: (n, 4) float -> (n, 4) int64.

    A box of the annotations ends with a pixel of the stored image, which is moved to the image's
    size and cut there (`resize_bbox`). boxes: far edges exclusive. stored_pixel: width and height
    of a stored image's pixel.
    """
    last = boxes[:, 2:] - np.array(stored_pixel)
    corners = np.floor(
        np.concatenate([boxes[:, :2], last], 1) + 1e-4
    )  # of float32; the next fraction is 1 / width
    return np.concatenate([corners[:, :2], np.maximum(corners[:, 2:], corners[:, :2])], 1).astype(
        np.int64
    )


def _score_maps(explanation: Explanation) -> np.ndarray:
    heatmap = explanation.required_heatmap
    raw_maps = heatmap if explanation.raw_map is None else explanation.raw_map
    size = (heatmap.shape[1], heatmap.shape[2])
    return np.stack(
        [_score_map(raw_map, size) for raw_map in widened(raw_maps.detach()).cpu().double().numpy()]
    )


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
    """(places (4, size), weights (4, size)) of the four pixels that each resized pixel is made of,
    along one side.

    The weights are float32, as OpenCV computes them; pixels beyond the edge are those of the edge.
    """
    centres = ((np.arange(size) + 0.5) * (length / size) - 0.5).astype(np.float32)
    first = np.floor(centres)
    x = centres - first
    unit = np.float32(1)
    y = unit - x
    far = ((CUBIC * (x + unit) - 5 * CUBIC) * (x + unit) + 8 * CUBIC) * (x + unit) - 4 * CUBIC
    near = [((CUBIC + 2) * near - (CUBIC + 3)) * near * near + unit for near in (x, y)]
    weights = np.stack([far, *near, unit - far - near[0] - near[1]])
    places = first.astype(int) + np.arange(-1, 3)[:, None]
    return places.clip(0, length - 1), weights.astype(np.float64)


def _box_curves(explanation: Explanation) -> tuple[np.ndarray, np.ndarray]:
    from axiom_bench.metrics.shared.union_find import (
        contour_ious,
    )  # here, because numba takes a third of a second

    boxes = explanation.required_boxes
    stored_pixels = explanation.stored_pixels or ((1.0, 1.0),) * len(boxes)
    levels = (score_maps(explanation) * 255).astype(np.uint8)
    inclusive = [
        inclusive_boxes(true_boxes.detach().cpu().double().numpy(), pixel)
        for true_boxes, pixel in zip(boxes, stored_pixels, strict=True)
    ]
    curves = in_threads(contour_ious, levels, inclusive)
    missing = np.array([[len(true_boxes) == 0] for true_boxes in boxes])
    largest, best = (
        np.where(missing, np.nan, np.stack(part)) for part in zip(*curves, strict=True)
    )
    return largest, best


def _bins(score_map: np.ndarray) -> np.ndarray:
    """The bin of each pixel: BIN_EDGES[bin] <= score < BIN_EDGES[bin + 1]. A search would take five
    times as long.
    """
    bins = (score_map * len(FRACTIONS)).astype(
        np.int64
    )  # or a neighbour, where the product was rounded
    bins -= score_map < BIN_EDGES[bins]
    bins += score_map >= BIN_EDGES[bins + 1]
    return bins
