"""How many of a map's highest pixels lie in its mask."""

from __future__ import annotations

import numpy as np
import torch

from axiom_bench.explanation.explanation import Explanation, given
from axiom_bench.metrics.shared.pixel_order import pixel_ranks


def highest_in_mask(explanation: Explanation, counts: np.ndarray) -> np.ndarray:
    """(B,) int -> (B,) int: how many of the counts[i] highest pixels of map i lie in its mask.

    See `shared.pixel_order` for the order of equal pixels.
    """
    ranks, masks = pixel_ranks(explanation).cpu(), given(explanation.masks, "masks").cpu()
    among_highest = ranks < torch.from_numpy(counts)[:, None, None]
    hits: np.ndarray = (among_highest & masks).sum((1, 2)).numpy()
    return hits
