"""Area under the ROC curve of a map's pixels: Fawcett, An introduction to ROC analysis, 2006."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.shared.rounding import millionths
from axiom_bench.metrics.shared.threshold_sweep import counted_pixels


def localization_auc(explanation: Explanation) -> Tensor:
    """Compute the share of pairs of a pixel inside and one outside the mask in the right order.

    The right order is a higher value inside the class's mask. Pixels of the heatmap that are equal
    to 1e-6 count a half, so a map that is zero everywhere has 1/2. Pixels without a verdict are in
    neither group.

    Args:
        explanation: The explanation, with its heatmap (B, H', W') and the class's mask.

    Returns:
        The areas, (B,) in [0, 1]; higher is better. They are NaN if the mask leaves no pixel
        outside.
    """
    masks = explanation.required_masks.cpu().numpy()
    rows = zip(millionths(explanation), masks, counted_pixels(explanation), strict=True)
    areas = []
    for levels, mask, is_counted in rows:
        inside = levels[is_counted & mask]
        outside = levels[is_counted & ~mask]
        areas.append(_auc(inside, outside))
    return torch.tensor(areas, dtype=torch.float64)


def _auc(inside: np.ndarray, outside: np.ndarray) -> float:
    """Compute the area from the values inside and outside of a mask."""
    if not (inside.size and outside.size):
        return float("nan")
    ascending = np.sort(outside)
    below = np.searchsorted(ascending, inside, "left")
    up_to = np.searchsorted(ascending, inside, "right")  # equal values count in one of the two
    return float((below + up_to).mean() / (2 * outside.size))
