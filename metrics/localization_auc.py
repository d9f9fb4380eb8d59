"""Area under the ROC curve of a map's pixels: Fawcett, An introduction to ROC analysis, 2006."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.shared.rounding import millionths
from axiom_bench.metrics.shared.threshold_sweep import counted_pixels


def localization_auc(explanation: Explanation) -> Tensor:
    """The share of pairs of a pixel in the class's mask and one outside that the map puts in order
    -> (B,) in [0, 1].

    Equal pixels of the heatmap, to 1e-6, count a half: a map that is zero everywhere has 1/2.
    Higher is better. Pixels without a verdict are in neither. NaN where the mask leaves no pixel
    outside.
    """
    masks = explanation.required_masks.cpu().numpy()
    rows = zip(millionths(explanation), masks, counted_pixels(explanation), strict=True)
    return torch.tensor(
        [_auc(row[mask & counted], row[counted & ~mask]) for row, mask, counted in rows],
        dtype=torch.float64,
    )


def _auc(inside: np.ndarray, outside: np.ndarray) -> float:
    if not (inside.size and outside.size):
        return float("nan")
    ascending = np.sort(outside)
    below, up_to = (np.searchsorted(ascending, inside, side) for side in ("left", "right"))
    return float((below + up_to).mean() / (2 * outside.size))
