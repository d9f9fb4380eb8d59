"""The two protocols of localization over a data set: of the published code, and of the heatmap as shown.

Sums and means over the rows of a data set, or over many resamples of them at once, are products of matrices. counts:
(R, N), how often each of the N rows is drawn in each of R resamples; None: each row once, and no first axis.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from axiom_bench.errors import BenchError, unknown
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.shared import threshold_sweep, wsol

Protocol = Literal["wsol", "heatmap"]


def box_curves(explanation: Explanation, protocol: Protocol, connectivity: int) -> tuple[np.ndarray, np.ndarray]:
    """(largest (B, T), best (B, T)): IoU of the largest region's box, and the best of all regions' boxes, at each of
    `thresholds(protocol)`; 0 where nothing is above, NaN without a true box.

    Raises BenchError for another protocol, and for a connectivity that the protocol doesn't have.
    """
    check(protocol)
    if protocol == "heatmap":
        boxes = threshold_sweep.boxes_above(explanation, connectivity)
        return boxes.iou, boxes.best_iou
    if connectivity != 8:
        raise BenchError(
            f"The wsol protocol has connectivity 8, not {connectivity!r}; set protocol=heatmap for another."
        )
    return wsol.box_curves(explanation)


def thresholds(protocol: Protocol) -> tuple[float, ...]:
    """Fractions of the maximum, ascending: 255 levels of an 8-bit map under wsol, 0, 0.01, ... 0.99 of the heatmap."""
    return wsol.THRESHOLDS if protocol == "wsol" else threshold_sweep.FRACTIONS


def pixel_counts(explanation: Explanation, protocol: Protocol) -> tuple[np.ndarray, np.ndarray]:
    """(above (B, T), hit (B, T)): pixels above each threshold, highest first, the last of all; those in the mask.

    Pixels without a verdict don't count. Raises BenchError for another protocol.
    """
    check(protocol)
    if protocol == "wsol":
        return wsol.pixel_counts(explanation)
    pixels = threshold_sweep.pixels_above(explanation)
    return pixels.above, pixels.hit


def check(protocol: str) -> None:
    """Raises BenchError for a name that is no protocol."""
    if protocol not in ("wsol", "heatmap"):
        raise unknown("protocol", protocol, ("wsol", "heatmap"))


def total(points: np.ndarray, counts: np.ndarray | None = None) -> np.ndarray:
    """The sum over rows, (N, n) -> (R, n), or (n,) without counts."""
    answer: np.ndarray = points.sum(0) if counts is None else counts @ points.astype(np.float64)
    return answer


def mean(points: np.ndarray, counts: np.ndarray | None = None) -> np.ndarray:
    """The mean over rows, (N, n) -> (R, n), or (n,) without counts."""
    return total(points, counts) / (len(points) if counts is None else counts.sum(1, keepdims=True))
