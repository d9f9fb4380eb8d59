"""Top-k intersection: Theiner et al., Interpretable Semantic Photo Geolocation, WACV 2022,
arXiv:2104.14995.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from axiom_bench.errors import BenchError
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.shared.threshold_sweep import counted_pixels, highest_in_mask


def top_k_intersection(explanation: Explanation, k: int = 1000) -> Tensor:
    """The share of the k highest pixels that lie in the mask of the explained class -> (B,) in [0,
    1].

    See `shared.pixel_order` for the order of equal pixels. Pixels without a verdict are passed
    over. An image of fewer than k other pixels has all of them counted. A mask of fewer than k
    pixels can't reach 1: see rank_accuracy of `mass_accuracy`. Raises BenchError for k < 1.
    """
    if k < 1:
        raise BenchError(f"top_k_intersection's k is {k}; it counts pixels, so give 1 or more.")
    num_pixels = np.minimum(k, counted_pixels(explanation).reshape(len(explanation), -1).sum(1))
    return torch.from_numpy(highest_in_mask(explanation, num_pixels) / np.maximum(num_pixels, 1))
