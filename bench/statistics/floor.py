"""The axiom floor: what no method on the score's scale can get below, whatever its contributions.

With every m_k free, one image's best reachable pairs (sensitivity, conservation) are the segment from (0, c0) to
(s0, 0); c0 = |S - sum d_k| / |S|, s0 = |S - sum d_k| / sum |d_k|.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def floor_of_means(s0: Floats, c0: Floats) -> tuple[Floats, Floats]:
    """The corners (sensitivity, conservation), each (n + 1,), of the lowest means that n images can reach together.

    From (0, mean c0), where every image has its whole gap in conservation, an image that moves its gap to sensitivity
    adds the step (s0_i, -c0_i) / n; the steepest go first. s0, c0: (n,), at least 0, both 0 for an image without a gap.
    """
    steepest = np.argsort(-_slope(s0, c0), kind="stable")
    n = len(s0)
    sensitivity = np.concatenate([[0.0], np.cumsum(s0[steepest]) / n])
    conservation = c0.mean() - np.concatenate([[0.0], np.cumsum(c0[steepest]) / n])
    return sensitivity, conservation.clip(min=0)  # the last corner is 0 but for rounding


def _slope(s0: Floats, c0: Floats) -> Floats:
    """c0 / s0 = sum |d_k| / |S|; no step at all has no slope and goes last."""
    return np.divide(c0, s0, out=np.where(c0 > 0, np.inf, 0.0), where=s0 > 0)
