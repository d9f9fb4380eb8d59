"""Relevance mass and rank accuracy: Arras et al., 2022, arXiv:2003.07258.

The paper is "CLEVR-XAI", Information Fusion.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.shared.regions import share_inside
from axiom_bench.metrics.shared.threshold_sweep import highest_in_mask


def mass_accuracy(explanation: Explanation) -> dict[str, Tensor]:
    """Compute how much of the map lies in the mask of the explained class.

    mass_accuracy is sum of h inside the mask / sum of h. rank_accuracy is the share of the K
    highest pixels that are inside the mask, where K is the number of the mask's pixels. See
    `shared.pixel_order` for the order of equal pixels. Pixels without a verdict count in neither.
    The heatmap's ReLU cuts off negative evidence.

    Args:
        explanation: The explanation, with its heatmap h (B, H', W') and the class's mask.

    Returns:
        mass_accuracy and rank_accuracy, each (B,) in [0, 1]; higher is better.
    """
    masks = explanation.required_masks.cpu().numpy()
    sizes = np.array([np.count_nonzero(mask) for mask in masks])
    hits = highest_in_mask(explanation, sizes)
    ranks = np.full(len(sizes), np.nan)  # a value without a mask stays NaN
    np.divide(hits, sizes, out=ranks, where=sizes > 0)
    return {
        "mass_accuracy": share_inside(explanation, "masks"),
        "rank_accuracy": torch.from_numpy(ranks),
    }
