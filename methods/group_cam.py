"""Group-CAM: Zhang et al., 2021, arXiv:2103.13859.

Group-CAM: Group Score-Weighted Visual Explanations for Deep Convolutional Networks.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from axiom_bench.cutting.numerics import axes, over_space, resized
from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import InvalidParameter
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
    """Sum over groups of (f(X M_g + X_b (1 - M_g)) - f(X_b)) M_g -> (B, H', W').

    The mask M_g is the ReLU of the sum of mean(g_k) F_k over the group's channels. Its values that
    aren't above its `percentile` are set to 0, and it is upsampled and min-max scaled. X_b is the
    image blurred by a Gaussian, and f the class's probability. Groups are neighbours in the layer's
    order, and their sizes differ by at most one. With fewer channels than `groups`, each channel is
    a group. A group whose map is zero adds nothing. Costs `groups` + 1 forward passes.

    Args:
        trace: The traced batch, with activations F and gradients g, (B, K, H, W) each.
        groups: The number of groups of channels, at least 1.
        percentile: The share of a group's map that is set to 0, in percent; None: nothing.
        kernel: The size of the blur in pixels, an odd number.
        sigma: The standard deviation of the blur in pixels, above 0.
        score: f: "probability" or "logit".
        relu: A group that lowers f adds nothing.
        scaled: Sum the masks. False: sum the upsampled maps before min-max scaling.

    Returns:
        The map, (B, H', W').

    Raises:
        BenchError: If the score is unknown, or if a number is outside its range.
    """
    if groups < 1:
        raise InvalidParameter(
            f"Invalid groups={groups}; give the number of groups of channels, at least 1."
        )
    if kernel < 1 or kernel % 2 == 0:
        raise InvalidParameter(
            f"Invalid kernel={kernel}; give the size of the blur in pixels, an odd number."
        )
    if not sigma > 0:
        raise InvalidParameter(
            f"Invalid sigma={sigma}; give the standard deviation of the blur in pixels, above 0."
        )
    if percentile is not None and not 0 <= percentile <= 100:
        raise InvalidParameter(f"Invalid percentile={percentile}; give a number from 0 to 100.")
    index = score_index(trace, score)
    with torch.inference_mode(False), torch.no_grad():
        maps = _group_maps(trace, groups)
        size = trace.images.shape[2:]

        # Image by image, so that no value depends on the rest of the batch.
        def saliency(row: int) -> Tensor:
            upsampled = resized(_denoised(maps[row], percentile), size)
            masks = minmax(upsampled)
            blurred = _blurred(trace.images[row], kernel, sigma)
            gains = _gains(trace, row, masks, blurred)[:, index]
            gains = gains.relu() if relu else gains
            summed_maps = masks if scaled else upsampled
            return (over_space(gains, upsampled[:, None]) * summed_maps).sum(0)

        return Map(trace.per_image(saliency))


def _group_maps(trace: Trace, groups: int) -> Tensor:
    """Return relu of the sum of mean(g_k) F_k over each group's channels: (B, groups, H, W)."""
    weighted = trace.gradients.mean(axes(trace.gradients), keepdim=True) * trace.activations
    channels = weighted.shape[1]
    groups = min(groups, channels)
    bounds = [channels * group // groups for group in range(groups + 1)]
    maps = [weighted[:, first:last].sum(1).relu() for first, last in pairwise(bounds)]
    return torch.stack(maps, 1)


def _denoised(maps: Tensor, percentile: float | None) -> Tensor:
    """Return maps (n, H, W) whose values that aren't above the map's percentile are set to 0."""
    if percentile is None:
        return maps
    threshold = maps.flatten(1).quantile(percentile / 100, dim=1)
    return maps.where(maps > over_space(threshold, maps[:, None]), 0)


def _gains(trace: Trace, row: int, masks: Tensor, blurred: Tensor) -> Tensor:
    """Return how much masked copies of the image exceed the blurred image in logit and probability.

    The masks are (n, H', W'), and the gains (n, 2).
    """
    image = trace.images[row]
    masks = torch.cat([masks, torch.zeros_like(masks[:1])])  # the last copy is the blurred image

    def masked(copies: slice) -> Tensor:
        return torch.lerp(blurred, image, masks[copies, None].expand(-1, *image.shape))

    scores = masked_scores(trace, row, len(masks), masked)
    return (scores - scores[-1])[:-1]


def _blurred(image: Tensor, kernel: int, sigma: float) -> Tensor:
    """Blur an image (3, H', W') by a separable Gaussian, reflecting the image at its borders."""
    x = torch.arange(kernel, device=image.device, dtype=torch.float64) - kernel // 2
    weights = torch.exp(-(x**2) / (2 * sigma**2))
    for axis in axes(image, 1)[::-1]:
        image = _blurred_rows(image.movedim(axis, -1), weights).movedim(-1, axis)
    return image


def _blurred_rows(image: Tensor, weights: Tensor) -> Tensor:
    """Blur along the last dimension, by a product with a matrix (length, length)."""
    length = image.shape[-1]
    reach = len(weights) // 2
    positions = (torch.arange(length)[:, None] + torch.arange(-reach, reach + 1)).to(image.device)
    # a short side is reflected several times
    period = max(1, 2 * (length - 1))
    reflected = length - 1 - (positions % period - (length - 1)).abs()
    matrix = torch.zeros(length, length, dtype=torch.float64, device=image.device)
    matrix.scatter_add_(1, reflected, (weights / weights.sum()).expand(length, -1))
    return image @ matrix.T.to(image)
