"""Group-CAM: Zhang et al., Group Score-Weighted Visual Explanations for Deep CNNs, 2021, arXiv:2103.13859."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from axiom_bench.cutting.division import XY
from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import BenchError
from axiom_bench.explanation.heatmap import Map
from axiom_bench.methods.shared.masking import column, masked_scores, masks


def group_cam(
    trace: Trace,
    groups: int = 32,
    percentile: float = 70.0,
    kernel: int = 51,
    sigma: float = 50.0,
    score: str = "probability",
) -> Map:
    """sum over groups of (f(X M_g + X_b (1 - M_g)) - f(X_b)) M_g, at the image's size -> (B, H', W').

    M_g: ReLU of the sum of mean(g_k) F_k over the group's channels, what isn't above its `percentile` set to 0
    (interpolated linearly between values), upsampled, min-max scaled. X_b: the image blurred by a Gaussian of `kernel`
    pixels and `sigma`. f: the class's probability, as in the authors' code; score="logit" takes the logit. The
    groups are neighbours in the layer's order, as even as they can be; with fewer channels than `groups`, each is one.
    A group whose map is zero masks nothing, and adds nothing. Raises BenchError for another score, less than one group,
    an even kernel, a sigma that isn't above 0 or a percentile outside 0 to 100.
    """
    if groups < 1:
        raise BenchError(f"Group-CAM needs at least one group, not groups={groups}.")
    if kernel < 1 or kernel % 2 == 0:
        raise BenchError(f"The blur's kernel is an odd number of pixels, not kernel={kernel}.")
    if not sigma > 0:
        raise BenchError(f"The blur's sigma is a number of pixels above 0, not sigma={sigma}.")
    if not 0 <= percentile <= 100:
        raise BenchError(f"The percentile is a number from 0 to 100, not {percentile}.")
    with torch.inference_mode(False), torch.no_grad():
        raw = [
            _of_image(trace, i, _denoised(maps, percentile), _blurred(image, kernel, sigma), column(score))
            for i, (image, maps) in enumerate(zip(trace.images, _group_maps(trace, groups), strict=True))
            if i < trace.distinct
        ]
    return Map(trace.with_repeats(torch.stack(raw)))


def _group_maps(trace: Trace, groups: int) -> Tensor:
    """relu of the sums of mean(g_k) F_k over each group's channels: (B, groups, H, W)."""
    weighted = trace.gradients.mean(XY, keepdim=True) * trace.activations
    channels = weighted.shape[1]
    groups = min(groups, channels)
    bounds = [channels * group // groups for group in range(groups + 1)]
    return torch.stack([weighted[:, first:last].sum(1).relu() for first, last in pairwise(bounds)], 1)


def _denoised(maps: Tensor, percentile: float) -> Tensor:
    """Each map (n, H, W) with what isn't above its percentile set to 0."""
    threshold = maps.flatten(1).quantile(percentile / 100, dim=1)[:, None, None]
    return maps.where(maps > threshold, 0)


def _of_image(trace: Trace, index: int, maps: Tensor, blurred: Tensor, column: int) -> Tensor:
    """The map (H', W') of one image. maps: (groups, H, W). The blurred image is the last row of the pass."""
    image = trace.images[index]
    kept = masks(maps, (image.shape[-2], image.shape[-1]))
    kept = torch.cat([kept, torch.zeros_like(kept[:1])])
    scores = masked_scores(
        trace, index, len(kept), lambda rows: torch.lerp(blurred, image, kept[rows, None].expand(-1, *image.shape))
    )[:, column]
    return ((scores - scores[-1])[:, None, None] * kept).sum(0)


def _blurred(image: Tensor, kernel: int, sigma: float) -> Tensor:
    """A separable Gaussian blur; beyond its border the image is reflected as often as it takes."""
    x = torch.arange(kernel, device=image.device, dtype=torch.float64) - kernel // 2
    weights = torch.exp(-(x**2) / (2 * sigma**2))
    return _blurred_rows(_blurred_rows(image, weights).mT, weights).mT


def _blurred_rows(image: Tensor, weights: Tensor) -> Tensor:
    """The blur along the last dimension, as a product with one matrix."""
    length, reach = image.shape[-1], len(weights) // 2
    place = (torch.arange(length)[:, None] + torch.arange(-reach, reach + 1)).to(image.device)
    period = max(1, 2 * (length - 1))
    mirrored = length - 1 - (place % period - (length - 1)).abs()
    matrix = torch.zeros(length, length, dtype=torch.float64, device=image.device)
    matrix.scatter_add_(1, mirrored, (weights / weights.sum()).expand(length, -1))
    return image @ matrix.T.to(image)
