"""Localization by mask: intersection over union of pixels, as Pascal VOC scores segmentations
(Everingham 2010).
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
    """IoU of the pixels above fraction x maximum with the mask of the explained class -> (B,);
    higher is better.

    |above and mask| / |above or mask|: true positives over true positives, false positives and false negatives.
    fraction: 0.15 as for `box_iou`; "best": each image's best of 0, 0.01, ... 0.99, chosen by the annotation. The map
    is rounded to 1e-6. Pixels without a verdict count neither as above nor as mask. Rows with an empty mask and a zero
    map give NaN. Raises BenchError for another fraction.
    """
    check_fraction(fraction)
    if fraction == BEST or fraction in FRACTIONS:
        pixels = pixels_above(explanation)
        curves = _share(pixels.hit, pixels.above + pixels.hit[:, -1:] - pixels.hit)[
            :, -2::-1
        ]  # from 0 to 0.99
        return torch.from_numpy(
            curves.max(1) if fraction == BEST else curves[:, FRACTIONS.index(float(fraction))]
        )
    masks = explanation.required_masks.cpu().numpy()
    above = (millionths(explanation) > level(float(fraction))) & counted_pixels(explanation)
    space = tuple(range(1, masks.ndim))
    hit, either = (
        np.count_nonzero(pixels, axis=space) for pixels in (above & masks, above | masks)
    )
    return torch.from_numpy(_share(hit, either))


def _share(part: np.ndarray, total: np.ndarray) -> np.ndarray:
    """part / total, NaN where both are 0."""
    return np.divide(part, total, out=np.full(np.shape(total), np.nan), where=total > 0)
