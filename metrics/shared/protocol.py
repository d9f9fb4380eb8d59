"""The protocols of localization over a data set: of the published code, and of the heatmap.

The published code, "wsol", is that of Choe et al., CVPR 2020, arXiv:2001.07437:
github.com/clovaai/wsolevaluation at commit 96f4b88. Its `inference.py` makes a score map of a raw
map, and its `evaluation.py` compares score maps with boxes and masks. Every rounding of that code
is followed, so that values are equal to the last digit. OpenCV's resize and contours are
reimplemented. The protocol "heatmap" takes the heatmap as it is shown.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from axiom_bench.cutting.threads import in_threads
from axiom_bench.errors import BenchError, unknown_name
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.shared import threshold_sweep
from axiom_bench.metrics.shared.rounding import widened
from axiom_bench.metrics.shared.threshold_sweep import counts_from_the_top

Protocol = Literal["wsol", "heatmap"]
FRACTIONS = np.arange(0, 1, 0.001)  # wsol's thresholds, as fractions of the maximum
# The fractions on an 8-bit map, where several of them are the same level.
LEVELS = (FRACTIONS * 255).astype(int)
# The first fraction of each of the 255 levels.
_, FIRST_INDICES = np.unique(LEVELS, return_index=True)
THRESHOLDS = tuple(float(FRACTIONS[index]) for index in FIRST_INDICES)
# The edges of the histograms of pixels; the last bin has only the maximum.
BIN_EDGES = np.append(FRACTIONS, [1.0, np.inf])
BINS = len(BIN_EDGES) - 1
CUBIC = np.float32(-0.75)  # the parameter of OpenCV's cubic interpolation


def box_curves(
    explanation: Explanation, protocol: Protocol, connectivity: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the IoU of the largest region's box, and of the best region's box, at each threshold.

    The curves are computed once per explanation. wsol's boxes are those of
    `union_find.contour_ious`.

    Args:
        explanation: The explanation, with its maps and the class's boxes.
        protocol: "wsol" or "heatmap".
        connectivity: 8 if pixels that touch at a corner are connected, or 4. wsol has 8.

    Returns:
        The IoU of the largest region, (B, T), and the best of all regions, (B, T), at each of
        `thresholds(protocol)`. It is 0 if no pixel is above, and NaN without a true box.

    Raises:
        BenchError: If the protocol is unknown, or doesn't have this connectivity.
    """
    check(protocol)
    # The sweep keeps its boxes, which `box_iou` reads as well, so only wsol's are kept here.
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
    """Return the thresholds as fractions of the maximum, ascending.

    Args:
        protocol: "wsol" for 255 levels of an 8-bit map, "heatmap" for 0, 0.01, ... 0.99.

    Returns:
        The T thresholds.
    """
    return THRESHOLDS if protocol == "wsol" else threshold_sweep.FRACTIONS


def pixel_counts(explanation: Explanation, protocol: Protocol) -> tuple[np.ndarray, np.ndarray]:
    """Count the pixels above each threshold, and those of them in the mask.

    The counts are computed once per explanation. Pixels without a verdict don't count.

    Args:
        explanation: The explanation, with its maps and the class's mask.
        protocol: "wsol" for pixels at the maximum and pixels of at least 0.999, 0.998, ... 0 (T =
            1001). "heatmap" for pixels above 0.99, 0.98, ... 0, and last all pixels.

    Returns:
        The pixels above, (B, T), and those of them in the mask, (B, T), the highest threshold
        first.

    Raises:
        BenchError: If the protocol is unknown.
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
    """Check that a protocol exists.

    Args:
        protocol: The protocol's name.

    Raises:
        BenchError: If the name is neither "wsol" nor "heatmap".
    """
    if protocol not in ("wsol", "heatmap"):
        raise unknown_name("protocol", protocol, ("wsol", "heatmap"))


def total(points: np.ndarray, counts: np.ndarray | None = None) -> np.ndarray:
    """Return the sum over rows.

    Args:
        points: The rows, (N, n).
        counts: How often each of the N rows is drawn in each of R resamples, (R, N). If None, each
            row counts once.

    Returns:
        The sums, (R, n), or (n,) without counts.
    """
    # Sums over many resamples at once are one product of matrices.
    sums: np.ndarray = points.sum(0) if counts is None else counts @ points.astype(np.float64)
    return sums


def mean(points: np.ndarray, counts: np.ndarray | None = None) -> np.ndarray:
    """Return the mean over rows.

    Args:
        points: The rows, (N, n).
        counts: How often each row is drawn in each resample, (R, N); see `total`.

    Returns:
        The means, (R, n), or (n,) without counts.
    """
    sizes = len(points) if counts is None else counts.sum(1, keepdims=True)
    return total(points, counts) / sizes


def score_maps(explanation: Explanation) -> np.ndarray:
    """Return the score maps of wsol, computed once per explanation.

    The signed raw map is resized to the heatmap's size by OpenCV's cubic interpolation. Its minimum
    is subtracted, and it is divided by its maximum. A constant map, and one with a value that isn't
    finite, becomes zero.

    Args:
        explanation: The explanation, with its raw map. Without a raw map, the heatmap takes its
            place.

    Returns:
        The score maps, (B, H', W') in [0, 1], float64.
    """
    return explanation.once("wsol score maps", lambda: _score_maps(explanation))


def resize_cubic(raw_map: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize a map as cv2.resize(..., interpolation=cv2.INTER_CUBIC) does, bit by bit.

    Args:
        raw_map: The map, (h, w) in float64.
        size: The new height and width.

    Returns:
        The resized map, in float64.
    """
    rows, row_weights = _taps(raw_map.shape[0], size[0])
    columns, column_weights = _taps(raw_map.shape[1], size[1])
    wide = sum(raw_map[:, columns[i]] * column_weights[i] for i in range(4))
    resized: np.ndarray = sum(wide[rows[i]] * row_weights[i][:, None] for i in range(4))
    return resized


def inclusive_boxes(boxes: np.ndarray, stored_pixel: tuple[float, ...]) -> np.ndarray:
    """Return boxes whose last pixel is inside, cut to whole pixels.

    A box of the annotations ends with a pixel of the stored image. As in `resize_bbox` of wsol,
    this pixel is moved to the image's size and cut there.

    Args:
        boxes: The boxes, (n, 4), whose far edges are exclusive.
        stored_pixel: The width and height of a stored image's pixel.

    Returns:
        The boxes, (n, 4) int64.
    """
    last = boxes[:, 2:] - np.array(stored_pixel)
    # 1e-4 allows for the rounding of float32; the next fraction is 1 / width.
    corners = np.floor(np.concatenate([boxes[:, :2], last], 1) + 1e-4)
    first_pixels = corners[:, :2]
    last_pixels = np.maximum(corners[:, 2:], first_pixels)
    return np.concatenate([first_pixels, last_pixels], 1).astype(np.int64)


def _score_maps(explanation: Explanation) -> np.ndarray:
    """Compute the score map of each row."""
    heatmap = explanation.required_heatmap
    raw_maps = heatmap if explanation.raw_map is None else explanation.raw_map
    size = (heatmap.shape[1], heatmap.shape[2])
    pixels = widened(raw_maps.detach()).cpu().double().numpy()
    return np.stack([_score_map(raw_map, size) for raw_map in pixels])


def _score_map(raw_map: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Compute the score map of one raw map; see `score_maps`."""
    with np.errstate(invalid="ignore", over="ignore"):
        resized = resize_cubic(raw_map, size)
        low = resized.min()
        extent = resized.max() - low  # not finite if a value isn't
    if not np.isfinite(extent) or extent == 0:
        return np.zeros(size)
    score_map: np.ndarray = (resized - low) / extent
    return score_map


def _taps(length: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices and weights (4, size) of the four pixels behind each resized pixel."""
    # The weights are float32, and in this order of operations, as OpenCV computes them.
    centres = ((np.arange(size) + 0.5) * (length / size) - 0.5).astype(np.float32)
    first = np.floor(centres)
    x = centres - first
    unit = np.float32(1)
    y = unit - x
    far = ((CUBIC * (x + unit) - 5 * CUBIC) * (x + unit) + 8 * CUBIC) * (x + unit) - 4 * CUBIC
    near_x = ((CUBIC + 2) * x - (CUBIC + 3)) * x * x + unit
    near_y = ((CUBIC + 2) * y - (CUBIC + 3)) * y * y + unit
    weights = np.stack([far, near_x, near_y, unit - far - near_x - near_y])
    # Pixels beyond the edge are those of the edge.
    indices = first.astype(int) + np.arange(-1, 3)[:, None]
    return indices.clip(0, length - 1), weights.astype(np.float64)


def _box_curves(explanation: Explanation) -> tuple[np.ndarray, np.ndarray]:
    """Compute the curves of wsol; see `box_curves`."""
    # Imported only when it is needed, because numba takes a third of a second.
    from axiom_bench.metrics.shared.union_find import contour_ious

    boxes = explanation.required_boxes
    stored_pixels = explanation.stored_pixels or ((1.0, 1.0),) * len(boxes)
    levels = (score_maps(explanation) * 255).astype(np.uint8)
    inclusive = []
    for true_boxes, pixel in zip(boxes, stored_pixels, strict=True):
        exclusive = true_boxes.detach().cpu().double().numpy()
        inclusive.append(inclusive_boxes(exclusive, pixel))
    curves = in_threads(contour_ious, levels, inclusive)
    missing = np.array([[len(true_boxes) == 0] for true_boxes in boxes])
    largest = np.stack([largest_ious for largest_ious, _ in curves])
    best = np.stack([best_ious for _, best_ious in curves])
    return np.where(missing, np.nan, largest), np.where(missing, np.nan, best)


def _bins(score_map: np.ndarray) -> np.ndarray:
    """Return the bin of each pixel: BIN_EDGES[bin] <= score < BIN_EDGES[bin + 1]."""
    # A search would take five times as long. If the product is rounded, it is a neighbouring bin.
    bins = (score_map * len(FRACTIONS)).astype(np.int64)
    bins -= score_map < BIN_EDGES[bins]
    bins += score_map >= BIN_EDGES[bins + 1]
    return bins
