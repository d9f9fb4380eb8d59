"""Top-k intersection: Theiner et al., WACV 2022, arXiv:2104.14995.

The paper is "Interpretable Semantic Photo Geolocation".
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from axiom_bench.errors import BenchError
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.shared.threshold_sweep import counted_pixels, highest_in_mask


def top_k_intersection(explanation: Explanation, k: int = 1000) -> Tensor:
    """Compute the share of the k highest pixels that lie in the mask of the explained class.

    See `shared.pixel_order` for the order of equal pixels. Pixels without a verdict are left out.
    If an image has fewer than k other pixels, all of them count. A mask of fewer than k pixels
    can't reach 1: see rank_accuracy of `mass_accuracy`.

    Args:
        explanation: The explanation, with its heatmap (B, H', W') and the class's mask.
        k: The number of pixels.

    Returns:
        The shares, (B,) in [0, 1]; higher is better.

    Raises:
        BenchError: If k is below 1.
    """
    if k < 1:
        raise BenchError(f"top_k_intersection's k is {k}; it counts pixels, so give 1 or more.")
    num_pixels = np.minimum(k, counted_pixels(explanation).reshape(len(explanation), -1).sum(1))
    return torch.from_numpy(highest_in_mask(explanation, num_pixels) / np.maximum(num_pixels, 1))
