"""How many of a map's highest pixels lie in its mask."""

from __future__ import annotations

import numpy as np

from axiom_bench.explanation.explanation import Explanation, given
from axiom_bench.metrics.shared.pixel_order import pixel_keys
from axiom_bench.metrics.shared.threshold_sweep import counted_pixels


def highest_in_mask(explanation: Explanation, counts: np.ndarray) -> np.ndarray:
    """(B,) int -> (B,) int: how many of the counts[i] highest pixels of map i lie in its mask.

    See `shared.pixel_order` for the order of equal pixels. Pixels without a verdict are passed over.
    """
    keys, masks = pixel_keys(explanation).cpu().numpy(), given(explanation.masks, "masks").cpu().numpy()
    rows = zip(keys, masks, counted_pixels(explanation), counts, strict=True)
    return np.array([_hits(of_map[counted], mask[counted], count) for of_map, mask, counted, count in rows])


def _hits(keys: np.ndarray, inside: np.ndarray, count: int) -> int:
    """How many of the `count` highest of n pixels, in reading order, are inside. keys: (n,) int. inside: (n,) bool."""
    if count == 0 or count >= len(keys):
        return int(np.count_nonzero(inside)) if count else 0
    lowest = np.partition(keys, -count)[-count]  # of the highest
    above = keys > lowest
    equal = np.flatnonzero(keys == lowest)[: count - np.count_nonzero(above)]
    return int(np.count_nonzero(above & inside) + np.count_nonzero(inside[equal]))
