"""Relevance mass and rank accuracy: Arras et al., CLEVR-XAI, Information Fusion 2022,
arXiv:2003.07258.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.shared.regions import share_inside
from axiom_bench.metrics.shared.threshold_sweep import highest_in_mask


def mass_accuracy(explanation: Explanation) -> dict[str, Tensor]:
    """How much of the map lies in the mask of the explained class -> two values (B,) in [0, 1],
    higher is better.

    mass_accuracy: sum of h inside the mask / sum of h. rank_accuracy: of the K highest pixels, the
    share inside the mask, K = the mask's pixels; see `shared.pixel_order` for the order of equal
    pixels. Pixels without a verdict count in neither. Negative evidence is cut off by the heatmap's
    ReLU.
    """
    masks = explanation.required_masks.cpu().numpy()
    sizes = np.array([np.count_nonzero(mask) for mask in masks])
    hits = highest_in_mask(explanation, sizes)
    ranks = np.divide(hits, sizes, out=np.full(len(sizes), np.nan), where=sizes > 0)
    return {
        "mass_accuracy": share_inside(explanation, "masks"),
        "rank_accuracy": torch.from_numpy(ranks),
    }
