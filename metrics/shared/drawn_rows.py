"""Sums and means over the rows of a data set, or over many resamples of them at once, as products of matrices.

counts: (R, N), how often each of the N rows is drawn in each of R resamples; None: each row once, and no first axis.
"""

from __future__ import annotations

import numpy as np


def total(points: np.ndarray, counts: np.ndarray | None = None) -> np.ndarray:
    """The sum over rows, (N, n) -> (R, n), or (n,) without counts."""
    answer: np.ndarray = points.sum(0) if counts is None else counts @ points.astype(np.float64)
    return answer


def mean(points: np.ndarray, counts: np.ndarray | None = None) -> np.ndarray:
    """The mean over rows, (N, n) -> (R, n), or (n,) without counts."""
    return total(points, counts) / (len(points) if counts is None else counts.sum(1, keepdims=True))
