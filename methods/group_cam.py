"""Group-CAM: Zhang et al., Group Score-Weighted Visual Explanations for Deep CNNs, 2021,
arXiv:2103.13859.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from axiom_bench.cutting.numerics import axes, over_space, resized
from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import BenchError
from axiom_bench.explanation.explanation import Map
from axiom_bench.methods.shared.masking import masked_scores, minmax, score_index


def group_cam(
    trace: Trace,
    groups: int = 32,
    percentile: float | None = 70.0,
    kernel: int = 51,
    sigma: float = 50.0,
    score: str = "probability",
    relu: bool = False,
    scaled: bool = True,
) -> Map:
    """sum over groups of (f(X M_g + X_b (1 - M_g)) - f(X_b)) M_g, at the image's size -> (B, H',
    W').

    M_g: ReLU of the sum of mean(g_k) F_k over the group's channels, set to 0 where it isn't above
    its `percentile` (None: nowhere), upsampled, min-max scaled. X_b: the image blurred by a
    Gaussian of `kernel` pixels and `sigma`. f: the class's probability; score="logit" takes the
    logit. relu: a group that lowers f adds nothing. scaled=False: the upsampled map in the sum in
    place of its mask. Groups are neighbours in the layer's order, of sizes equal or one apart; with
    fewer channels than `groups`, one channel each. A group whose map is zero adds nothing. Costs
    `groups` + 1 forward passes. Raises BenchError for another score, groups < 1, an even kernel,
    sigma <= 0 and a percentile outside [0, 100].
    """
    if groups < 1:
        raise BenchError(
            f"Invalid groups={groups}; give the number of groups of channels, at least 1."
        )
    if kernel < 1 or kernel % 2 == 0:
        raise BenchError(
            f"Invalid kernel={kernel}; give the size of the blur in pixels, an odd number."
        )
    if not sigma > 0:
        raise BenchError(
            f"Invalid sigma={sigma}; give the standard deviation of the blur in pixels, above 0."
        )
    if percentile is not None and not 0 <= percentile <= 100:
        raise BenchError(f"Invalid percentile={percentile}; give a number from 0 to 100.")
    index = score_index(trace, score)
    with torch.inference_mode(False), torch.no_grad():
        maps = _group_maps(trace, groups)
        size = trace.images.shape[2:]

        def saliency(row: int) -> Tensor:
            upsampled = resized(_denoised(maps[row], percentile), size)
            kept, blurred = minmax(upsampled), _blurred(trace.images[row], kernel, sigma)
            gains = _gains(trace, row, kept, blurred)[:, index]
            gains = gains.relu() if relu else gains
            return (over_space(gains, upsampled[:, None]) * (kept if scaled else upsampled)).sum(0)

        return Map(trace.per_image(saliency))


def _group_maps(trace: Trace, groups: int) -> Tensor:
    """relu of the sums of mean(g_k) F_k over each group's channels: (B, groups, H, W)."""
    weighted = trace.gradients.mean(axes(trace.gradients), keepdim=True) * trace.activations
    channels = weighted.shape[1]
    groups = min(groups, channels)
    bounds = [channels * group // groups for group in range(groups + 1)]
    return torch.stack(
        [weighted[:, first:last].sum(1).relu() for first, last in pairwise(bounds)], 1
    )


def _denoised(maps: Tensor, percentile: float | None) -> Tensor:
    """The maps (n, H, W) with values that aren't above the map's percentile set to 0."""
    if percentile is None:
        return maps
    threshold = maps.flatten(1).quantile(percentile / 100, dim=1)
    return maps.where(maps > over_space(threshold, maps[:, None]), 0)


def _gains(trace: Trace, row: int, kept: Tensor, blurred: Tensor) -> Tensor:
    """By how much logit and probability of the image under masks `kept` (n, H', W') exceed the
    blurred one's: (n, 2).

    The blurred image, as a mask of zeros, is the last copy.
    """
    image = trace.images[row]
    kept = torch.cat([kept, torch.zeros_like(kept[:1])])

    def masked(copies: slice) -> Tensor:
        return torch.lerp(blurred, image, kept[copies, None].expand(-1, *image.shape))

    scores = masked_scores(trace, row, len(kept), masked)
    return (scores - scores[-1])[:-1]


def _blurred(image: Tensor, kernel: int, sigma: float) -> Tensor:
    """A separable Gaussian blur of (3, H', W'); the image is reflected at its borders, repeatedly
    where it is small.
    """
    x = torch.arange(kernel, device=image.device, dtype=torch.float64) - kernel // 2
    weights = torch.exp(-(x**2) / (2 * sigma**2))
    for axis in axes(image, 1)[::-1]:
        image = _blurred_rows(image.movedim(axis, -1), weights).movedim(-1, axis)
    return image


def _blurred_rows(image: Tensor, weights: Tensor) -> Tensor:
    """The blur along the last dimension, as a product with a matrix (length, length)."""
    length, reach = image.shape[-1], len(weights) // 2
    positions = (torch.arange(length)[:, None] + torch.arange(-reach, reach + 1)).to(image.device)
    period = max(1, 2 * (length - 1))
    reflected = length - 1 - (positions % period - (length - 1)).abs()
    matrix = torch.zeros(length, length, dtype=torch.float64, device=image.device)
    matrix.scatter_add_(1, reflected, (weights / weights.sum()).expand(length, -1))
    return image @ matrix.T.to(image)
