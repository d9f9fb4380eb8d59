"""Localization by mask: intersection over union of pixels.

Pascal VOC scores segmentations in the same way (Everingham 2010).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.shared.rounding import level, millionths
from axiom_bench.metrics.shared.threshold_sweep import (
    BEST,
    FRACTIONS,
    check_fraction,
    counted_pixels,
    pixels_above,
)


def mask_iou(explanation: Explanation, fraction: float | str = 0.15) -> Tensor:
    """Compute |above and mask| / |above or mask|, for pixels above fraction x maximum.

    This is the IoU: true positives over true positives, false positives and false negatives. The
    mask is that of the explained class. The map is rounded to 1e-6. Pixels without a verdict count
    neither as above nor as mask.

    Args:
        explanation: The explanation, with its heatmap (B, H', W') and the class's mask.
        fraction: The threshold as a fraction of the maximum, 0.15 as for `box_iou`. With "best",
            each image has its best of 0, 0.01, ... 0.99, chosen with the annotation.

    Returns:
        The IoU, (B,); higher is better. Rows with an empty mask and a zero map give NaN.

    Raises:
        BenchError: If the fraction is neither "best" nor from 0 to below 1.
    """
    check_fraction(fraction)
    if fraction == BEST or fraction in FRACTIONS:
        pixels = pixels_above(explanation)
        mask_sizes = pixels.hit[:, -1:]
        shares = _share(pixels.hit, pixels.above + mask_sizes - pixels.hit)
        curves = shares[:, -2::-1]  # from 0 to 0.99
        if fraction == BEST:
            return torch.from_numpy(curves.max(1))
        return torch.from_numpy(curves[:, FRACTIONS.index(float(fraction))])
    masks = explanation.required_masks.cpu().numpy()
    above = (millionths(explanation) > level(float(fraction))) & counted_pixels(explanation)
    space = tuple(range(1, masks.ndim))
    hit = np.count_nonzero(above & masks, axis=space)
    either = np.count_nonzero(above | masks, axis=space)
    return torch.from_numpy(_share(hit, either))


def _share(part: np.ndarray, total: np.ndarray) -> np.ndarray:
    """Return part / total, NaN if both are 0."""
    ratios = np.full(np.shape(total), np.nan)
    np.divide(part, total, out=ratios, where=total > 0)
    return ratios
