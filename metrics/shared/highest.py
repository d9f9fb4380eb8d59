"""How many of a map's highest pixels lie in its mask."""

from __future__ import annotations

import numpy as np
import torch

from axiom_bench.explanation.explanation import Explanation, given
from axiom_bench.metrics.shared.pixel_order import pixel_ranks
from axiom_bench.metrics.shared.threshold_sweep import counted_pixels


def highest_in_mask(explanation: Explanation, counts: np.ndarray) -> np.ndarray:
    """(B,) int -> (B,) int: how many of the counts[i] highest pixels of map i lie in its mask.

    See `shared.pixel_order` for the order of equal pixels. Pixels without a verdict are passed over.
    """
    ranks, masks = pixel_ranks(explanation).cpu(), given(explanation.masks, "masks").cpu()
    counted = torch.from_numpy(counted_pixels(explanation))
    last = ranks.masked_fill(~counted, ranks[0].numel())
    ranks = last.flatten(1).argsort(1).argsort(1).view_as(ranks)
    among_highest = ranks < torch.from_numpy(counts)[:, None, None]
    hits: np.ndarray = (among_highest & masks & counted).sum((1, 2)).numpy()
    return hits
