"""The highest pixels of a map."""

from __future__ import annotations

import numpy as np

from bench.explanation import Explanation
from metrics.rounding import millionths


def highest(explanation: Explanation, counts: np.ndarray) -> np.ndarray:
    """(B,) int -> (B, H', W') bool: the counts[i] highest pixels of map i rounded to 1e-6, ties to the first pixel."""
    levels = millionths(explanation)
    chosen = [_highest(one.ravel(), int(count)) for one, count in zip(levels, counts, strict=True)]
    return np.stack(chosen).reshape(levels.shape)


def _highest(levels: np.ndarray, count: int) -> np.ndarray:
    if count == 0:
        return np.zeros(levels.shape, dtype=bool)
    least = np.partition(levels, -count)[-count]  # the lowest level among them
    chosen: np.ndarray = levels > least
    ties = np.flatnonzero(levels == least)
    chosen[ties[: count - np.count_nonzero(chosen)]] = True
    return chosen
