"""The highest pixels of a map, and where they lie."""

from __future__ import annotations

import numpy as np

from axiom_bench.explanation.explanation import Explanation, given
from axiom_bench.metrics.shared.rounding import millionths
from axiom_bench.metrics.shared.threshold_sweep import counted_pixels


def highest_in_mask(explanation: Explanation, counts: np.ndarray) -> np.ndarray:
    """(B,) int -> (B,) int: how many of the counts[i] highest pixels of map i, rounded to 1e-6, lie in its mask.

    Ties to the first pixel. Pixels without a verdict are passed over.
    """
    masks, counted = given(explanation.masks, "masks").cpu().numpy(), counted_pixels(explanation)
    rows = zip(millionths(explanation), masks, counted, counts, strict=True)
    return np.array([
        np.count_nonzero(_highest(levels[pixels], int(count)) & mask[pixels]) for levels, mask, pixels, count in rows
    ])  # fmt: skip


def _highest(levels: np.ndarray, count: int) -> np.ndarray:
    if count == 0:
        return np.zeros(levels.shape, dtype=bool)
    least = np.partition(levels, -count)[-count]  # the lowest level among them
    chosen: np.ndarray = levels > least
    ties = np.flatnonzero(levels == least)
    chosen[ties[: count - np.count_nonzero(chosen)]] = True
    return chosen
