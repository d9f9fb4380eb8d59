"""The similarity of two maps of an image: two correlations and structural similarity.

The correlations are Pearson's and Spearman's. Structural similarity is SSIM.
"""

from __future__ import annotations

import torch
from torch import Tensor

from axiom_bench.cutting.numerics import axes, convolved
from axiom_bench.errors import unknown_name
from axiom_bench.explanation.explanation import Explanation

# Spread of a constant map after rounding, relative to its largest |value|; float32 maps are sums
# over many channels.
CONSTANT_SPREAD = {
    torch.float64: 1e-12,
    torch.float32: 1e-6,
    torch.float16: 2e-3,
    torch.bfloat16: 2e-2,
}
KINDS = ("pearson", "spearman", "ssim")
WINDOW = 11  # pixels, of SSIM's Gaussian
SIGMA = 1.5  # pixels
K1, K2 = 0.01, 0.03  # of SSIM, for a range of 1


def similarity(first: Explanation, second: Explanation, kind: str) -> Tensor:
    """Return the similarity of two explanations of the same images.

    Args:
        first: The first explanation.
        second: The second explanation.
        kind: "pearson" or "spearman" for the correlation of the signed raw maps, without ReLU and
            resize. "ssim" for structural similarity of the heatmaps.

    Returns:
        The similarities, (B,), 1 for the same map. A correlation is in [-1, 1], and NaN if a map is
        constant. SSIM is in [0, 1]. It is NaN if a heatmap is zero everywhere, since two zero maps
        would have similarity 1. The value is infinite if the second explanation isn't finite.

    Raises:
        BenchError: If the kind is unknown.
    """
    if kind not in KINDS:
        raise unknown_name("similarity of maps", kind, KINDS)
    if kind == "ssim":
        first_map = first.required_heatmap
        second_map = second.required_heatmap
        are_visible = [heatmap.flatten(1).amax(1) > 0 for heatmap in (first_map, second_map)]
        similarity = ssim(first_map, second_map)
        values = similarity.masked_fill(~torch.stack(are_visible).all(0), torch.nan)
    else:
        correlation = pearson if kind == "pearson" else spearman
        values = correlation(first.required_raw_map, second.required_raw_map)
    # The metrics' preconditions have excluded rows whose first explanation isn't finite.
    return values.masked_fill(~second.finite, torch.inf)


def pearson(first: Tensor, second: Tensor) -> Tensor:
    """Return cov(a, b) / (std(a) std(b)) over the pixels.

    Args:
        first: The maps a, (B, h, w).
        second: The maps b, (B, h, w).

    Returns:
        The correlations, (B,) in [-1, 1]. They are NaN if a map is `has_constant_values`.
    """
    a = _centred(first.double().flatten(1))
    b = _centred(second.double().flatten(1))
    is_constant = has_constant_values(first) | has_constant_values(second)
    return (a * b).sum(1).clamp(-1, 1).masked_fill(is_constant, torch.nan)


def spearman(first: Tensor, second: Tensor) -> Tensor:
    """Return Pearson's correlation of the pixels' ranks; equal pixels share the mean of theirs.

    Pixels are equal if the maps, over their largest |value|, agree to 1e-6.

    Args:
        first: The first maps, (B, h, w).
        second: The second maps, (B, h, w).

    Returns:
        The correlations, (B,) in [-1, 1]. They are NaN if a map is `has_constant_values`.
    """
    correlation = pearson(_ranks(first), _ranks(second))
    return correlation.masked_fill(
        has_constant_values(first) | has_constant_values(second), torch.nan
    )


def has_constant_values(maps: Tensor) -> Tensor:
    """Return whether a map is the same everywhere, up to the rounding of its type.

    Args:
        maps: The maps, (B, ...).

    Returns:
        True or False, (B,).
    """
    values = maps.double().flatten(1)
    spread = (values - values.mean(1, keepdim=True)).abs().amax(1)
    return spread <= CONSTANT_SPREAD[maps.dtype] * values.abs().amax(1)


def mask_undefined(values: Tensor, raw_map: Tensor, answers: Tensor) -> Tensor:
    """Replace values by NaN if the map is constant, and by infinity if an answer isn't finite.

    Infinity marks the model's answers, because NaN means a constant map.

    Args:
        values: The values, (B, ...).
        raw_map: The raw maps, (B, h, w); see `has_constant_values`.
        answers: The model's answers, (B, n).

    Returns:
        The values, (B, ...).
    """
    row_shape = (-1, *(1 for _ in values.shape[1:]))
    is_constant = has_constant_values(raw_map).view(row_shape)
    is_infinite = ~answers.isfinite().all(1).view(row_shape)
    return values.masked_fill(is_constant, torch.nan).masked_fill(is_infinite, torch.inf)


def ssim(first: Tensor, second: Tensor) -> Tensor:
    """Return the mean structural similarity of maps in [0, 1]: Wang et al. 2004, Eq. 13.

    It is the mean of (2 mu_a mu_b + C1)(2 cov + C2) / ((mu_a^2 + mu_b^2 + C1)(var_a + var_b + C2)),
    with C1 = 0.01^2 and C2 = 0.03^2. The moments are under a Gaussian window of 11 x 11 pixels and
    sigma 1.5, at all places where the window lies inside the map. Maps of less than 11 pixels per
    side have the largest odd window that fits.

    Args:
        first: The maps a, (B, H, W).
        second: The maps b, (B, H, W).

    Returns:
        The similarities, (B,).
    """
    a = first.double()
    b = second.double()
    # One convolution computes all five moments.
    planes = torch.stack([a, b, a * a, b * b, a * b], dim=1)
    moments = _windowed(planes)
    mean_a, mean_b, square_a, square_b, product = moments.unbind(1)
    var_a = square_a - mean_a**2
    var_b = square_b - mean_b**2
    cov = product - mean_a * mean_b
    C1 = K1**2
    C2 = K2**2
    numerator = (2 * mean_a * mean_b + C1) * (2 * cov + C2)
    denominator = (mean_a**2 + mean_b**2 + C1) * (var_a + var_b + C2)
    return (numerator / denominator).mean(axes(a, 1))


def _centred(values: Tensor) -> Tensor:
    """Subtract the mean and divide by the norm: (B, n); NaN if all values are equal."""
    centred = values - values.mean(1, keepdim=True)
    unit_vectors: Tensor = centred / centred.norm(dim=1, keepdim=True)
    return unit_vectors


def _ranks(maps: Tensor) -> Tensor:
    """Return the ranks of each map's pixels, (B, h w) in float64; NaN for a map with NaN."""
    values = maps.double().flatten(1)
    scale = values.abs().amax(1, keepdim=True)
    rounded = (values / scale.masked_fill(scale == 0, 1)).round(decimals=6)
    ascending = rounded.sort(1).values
    # The mean of the places, from 1 on, of all equal values.
    first = torch.searchsorted(ascending, rounded, right=False)
    behind = torch.searchsorted(ascending, rounded, right=True)
    ranks = (first + behind + 1).double() / 2
    return ranks.masked_fill(rounded.isnan().any(1, keepdim=True), torch.nan)


def _windowed(planes: Tensor) -> Tensor:
    """Return the means of planes (B, C, H, W) under the Gaussian window, where it lies inside."""
    side = min(WINDOW, *planes.shape[2:])
    side -= 1 - side % 2
    steps = torch.arange(side, dtype=planes.dtype, device=planes.device) - side // 2
    kernel = torch.exp(-(steps**2) / (2 * SIGMA**2))
    return convolved(planes, kernel / kernel.sum())
