"""PxAP: Choe et al., CVPR 2020, arXiv:2001.07437.

The paper is "Evaluating Weakly Supervised Object Localization Methods Right".
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from axiom_bench.explanation.explanation import Curve, Explanation
from axiom_bench.metrics.shared.protocol import Protocol, pixel_counts, total


def pxap(explanation: Explanation, protocol: Protocol = "wsol") -> dict[str, Tensor | Curve]:
    """Compute pixel average precision, the area under precision against recall of pixels.

    It is sum_l P_l (R_l - R_(l-1)) as the threshold falls. P is the share of the pixels above the
    threshold that are in the mask. R is the share of the mask that is above. The data set's value,
    of all images' pixels together, is `over_images`. pixel_ap_own_image is the same of each image.
    Pixels without a verdict don't count. A constant map has the mask's share of the other pixels;
    so has a zero map, and one that isn't finite.

    Args:
        explanation: The explanation, with its maps and the class's mask.
        protocol: "wsol" for what the authors' code computes, at 1, 0.999, 0.998, ... 0 of the score
            map; see `shared.protocol`. "heatmap" for pixels above 0.99, 0.98, ... 0 of the
            heatmap's maximum, and last all pixels.

    Returns:
        pixel_ap_own_image, (B,); and the curves pxap_above and pxap_hit, (B, T), which have the
        counts.

    Raises:
        BenchError: If the protocol is unknown.
    """
    above, hit = pixel_counts(explanation, protocol)
    own_precision = torch.from_numpy(average_precision(above, hit))
    # Curves of counts instead of shares, so that `over_images` can add up the images' pixels.
    above_curve = Curve(torch.from_numpy(above).double())
    hit_curve = Curve(torch.from_numpy(hit).double())
    return {
        "pixel_ap_own_image": own_precision,
        "pxap_above": above_curve,
        "pxap_hit": hit_curve,
    }


def over_images(
    curves: Mapping[str, np.ndarray], counts: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Compute the average precision of the pixels of all images together.

    Args:
        curves: The curves pxap_above and pxap_hit of all N images, (N, T).
        counts: How often each image is drawn in each resample, (R, N); see `protocol.total`.

    Returns:
        pxap, a number, or (R,) with counts.
    """
    above = total(curves["pxap_above"], counts)
    hit = total(curves["pxap_hit"], counts)
    return {"pxap": average_precision(above, hit)}


def whole_set_values(protocol: Protocol) -> dict[str, dict[str, str]]:
    """Return the data set's value with its title.

    Args:
        protocol: The protocol. Only the published protocol has the published name.

    Returns:
        The metadata by the value's name.
    """
    return {"pxap": {"title": "PxAP" if protocol == "wsol" else "Heatmap pixel average precision"}}


def average_precision(above: np.ndarray, hit: np.ndarray) -> np.ndarray:
    """Compute average precision from counts of pixels.

    Args:
        above: The pixels above each threshold as it falls, (..., T); the last are all pixels.
        hit: The pixels among them that are in the mask, (..., T).

    Returns:
        The average precision, (...); NaN without a pixel in the mask.
    """
    gained = np.diff(hit, axis=-1, prepend=0)
    shares = gained * (hit / np.maximum(above, 1))  # if nothing is above yet, nothing is gained
    with np.errstate(invalid="ignore"):
        precision: np.ndarray = shares.sum(-1) / hit[..., -1]
    return precision
