"""PxAP: Choe et al., Evaluating Weakly Supervised Object Localization Methods Right, CVPR 2020,
arXiv:2001.07437.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from axiom_bench.explanation.explanation import Curve, Explanation
from axiom_bench.metrics.shared.protocol import Protocol, pixel_counts, total


def pxap(explanation: Explanation, protocol: Protocol = "wsol") -> dict[str, Tensor | Curve]:
    """Pixel average precision: the area under precision against recall of all images' pixels, as
    the threshold falls.

    sum_l P_l (R_l - R_(l-1)); P = pixels in the mask among those above, R = share of the mask that
    is above: that of the data set is `over_images`. pixel_ap_own_image (B,): the same of each image
    alone. The curves pxap_above and pxap_hit (B, T) hold the counts. Pixels without a verdict don't
    count; a constant map has the mask's share of the others, and so has a zero map and one that
    isn't finite. protocol "wsol": what the authors' code computes, at 1, 0.999, 0.998, ... 0 of the
    score map, see `shared.protocol`; "heatmap": pixels above 0.99, 0.98, ... 0 of the heatmap's
    maximum, and last all pixels.
    """
    above, hit = pixel_counts(explanation, protocol)
    return {
        "pixel_ap_own_image": torch.from_numpy(average_precision(above, hit)),
        "pxap_above": Curve(torch.from_numpy(above).double()),
        "pxap_hit": Curve(torch.from_numpy(hit).double()),
    }


def over_images(
    curves: Mapping[str, np.ndarray], counts: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """The average precision of the pixels of all images together. counts: see `protocol.total`."""
    return {
        "pxap": average_precision(
            total(curves["pxap_above"], counts), total(curves["pxap_hit"], counts)
        )
    }


def whole_set_values(protocol: Protocol) -> dict[str, dict[str, Any]]:
    """The data set's value with its title: the published name is of the published protocol
    alone.
    """
    return {"pxap": {"title": "PxAP" if protocol == "wsol" else "Heatmap pixel average precision"}}


def average_precision(above: np.ndarray, hit: np.ndarray) -> np.ndarray:
    """Counts (..., T) as the threshold falls, the last of all pixels -> (...); NaN without a pixel
    in the mask.
    """
    gained = np.diff(hit, axis=-1, prepend=0)
    shares = gained * (hit / np.maximum(above, 1))  # where nothing is above yet, nothing is gained
    with np.errstate(invalid="ignore"):
        precision: np.ndarray = shares.sum(-1) / hit[..., -1]
    return precision
