"""PxAP: Choe et al., Evaluating Weakly Supervised Object Localization Methods Right, CVPR 2020, arXiv:2001.07437."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from axiom_bench.explanation.curve import Curve
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.shared.drawn_rows import total
from axiom_bench.metrics.shared.threshold_sweep import pixels_above


def pxap(explanation: Explanation) -> dict[str, Tensor | Curve]:
    """Pixel average precision: the area under precision against recall of pixels, as the threshold falls -> (B,).

    sum_l P_l (R_l - R_(l-1)) over pixels above 0.99, 0.98, ... 0 of the maximum, and last all pixels; P = pixels in
    the mask among those above, R = share of the mask that is above. An image's own value is that of a data set of that
    image alone; the data set's own sums pixels over all images first. The curves pxap_above and pxap_hit (B, 101) hold
    those counts. A constant map has the mask's share of the image.
    """
    pixels = pixels_above(explanation)
    precision = torch.from_numpy(average_precision(pixels.above, pixels.hit))
    return {
        "pxap": precision,
        "pxap_above": Curve(torch.from_numpy(pixels.above).double()),
        "pxap_hit": Curve(torch.from_numpy(pixels.hit).double()),
    }


def over_images(curves: Mapping[str, np.ndarray], counts: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """The same of the pixels of all images together. counts: see `shared.drawn_rows`."""
    return {"pxap": average_precision(total(curves["pxap_above"], counts), total(curves["pxap_hit"], counts))}


def average_precision(above: np.ndarray, hit: np.ndarray) -> np.ndarray:
    """Counts (..., T) as the threshold falls, the last of all pixels -> (...); NaN without a pixel in the mask."""
    gained = np.diff(hit, axis=-1, prepend=0)
    shares = gained * (hit / np.maximum(above, 1))  # where nothing is above yet, nothing is gained
    with np.errstate(invalid="ignore"):
        answer: np.ndarray = shares.sum(-1) / hit[..., -1]
    return answer
