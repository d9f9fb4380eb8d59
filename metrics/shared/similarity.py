"""Similarity of two maps of an image: Pearson's and Spearman's correlation, and structural
similarity (SSIM).
"""

from __future__ import annotations

import torch
from torch import Tensor

from axiom_bench.cutting.numerics import axes, convolved
from axiom_bench.errors import unknown
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
    """Similarity of two explanations of the same images -> (B,), at most 1, for the same map.

    kind "pearson" or "spearman": the correlation of the signed raw maps, no ReLU and no resize, in
    [-1, 1]; NaN where a map is constant. "ssim": structural similarity of the heatmaps in [0, 1];
    NaN where a heatmap is zero everywhere, since two zero maps would have similarity 1. Infinite
    where the second explanation isn't finite. Raises BenchError for another kind.
    """
    if kind not in KINDS:
        raise unknown("similarity of maps", kind, KINDS)
    if kind == "ssim":
        maps = first.required_heatmap, second.required_heatmap
        visible = torch.stack([heatmap.flatten(1).amax(1) > 0 for heatmap in maps]).all(0)
        values = ssim(*maps).masked_fill(~visible, torch.nan)
    else:
        correlation = pearson if kind == "pearson" else spearman
        values = correlation(first.required_raw_map, second.required_raw_map)
    return values.masked_fill(~second.finite, torch.inf)


def pearson(first: Tensor, second: Tensor) -> Tensor:
    """cov(a, b) / (std(a) std(b)) over the pixels: two (B, h, w) -> (B,) in [-1, 1], NaN where one
    is `constant`.
    """
    a, b = (_centred(maps.double().flatten(1)) for maps in (first, second))
    return (a * b).sum(1).clamp(-1, 1).masked_fill(constant(first) | constant(second), torch.nan)


def spearman(first: Tensor, second: Tensor) -> Tensor:
    """Pearson's correlation of the pixels' ranks, equals sharing the mean of theirs: two (B, h, w)
    -> (B,).

    Pixels are equal where the maps, over their largest |value|, agree to 1e-6. NaN where a map is
    `constant`.
    """
    correlation = pearson(*(_ranks(maps) for maps in (first, second)))
    return correlation.masked_fill(constant(first) | constant(second), torch.nan)


def constant(maps: Tensor) -> Tensor:
    """(B, ...) -> bool (B,): where a map is the same everywhere, up to the rounding of the type
    that it has.
    """
    values = maps.double().flatten(1)
    spread = (values - values.mean(1, keepdim=True)).abs().amax(1)
    return spread <= CONSTANT_SPREAD[maps.dtype] * values.abs().amax(1)


def where_defined(values: Tensor, raw_map: Tensor, answers: Tensor) -> Tensor:
    """Values (B, ...) with NaN where the raw map (B, h, w) is `constant`, and infinity, since NaN
    means that, where one of the model's answers (B, n) isn't finite.
    """
    rows = (-1, *(1 for _ in values.shape[1:]))
    is_constant = constant(raw_map).view(rows)
    is_infinite = ~answers.isfinite().all(1).view(rows)
    return values.masked_fill(is_constant, torch.nan).masked_fill(is_infinite, torch.inf)


def ssim(first: Tensor, second: Tensor) -> Tensor:
    """Mean structural similarity of maps in [0, 1]: two (B, H, W) -> (B,). Wang et al. 2004, Eq.
    13.

    (2 mu_a mu_b + C1)(2 cov + C2) / ((mu_a^2 + mu_b^2 + C1)(var_a + var_b + C2)) under a Gaussian
    window of 11 x 11 pixels and sigma 1.5, C1 = 0.01^2, C2 = 0.03^2. It is taken at all places
    where the window lies inside the map. Maps of less than 11 pixels a side take the largest odd
    window that fits.
    """
    a = first.double()
    b = second.double()
    mean_a, mean_b, square_a, square_b, product = _windowed(
        torch.stack([a, b, a * a, b * b, a * b], dim=1)
    ).unbind(1)
    var_a = square_a - mean_a**2
    var_b = square_b - mean_b**2
    cov = product - mean_a * mean_b
    C1 = K1**2
    C2 = K2**2
    numerator = (2 * mean_a * mean_b + C1) * (2 * cov + C2)
    return (numerator / ((mean_a**2 + mean_b**2 + C1) * (var_a + var_b + C2))).mean(axes(a, 1))


def _centred(values: Tensor) -> Tensor:
    """Subtract the mean and divide by the norm: (B, n) -> (B, n); NaN where all values are
    equal.
    """
    centred = values - values.mean(1, keepdim=True)
    return centred / centred.norm(dim=1, keepdim=True)


def _ranks(maps: Tensor) -> Tensor:
    """(B, h, w) -> (B, h w) in float64; NaN maps have NaN ranks."""
    values = maps.double().flatten(1)
    scale = values.abs().amax(1, keepdim=True)
    rounded = (values / scale.masked_fill(scale == 0, 1)).round(decimals=6)
    ascending = rounded.sort(1).values
    first, behind = (torch.searchsorted(ascending, rounded, right=right) for right in (False, True))
    ranks = (first + behind + 1).double() / 2  # the mean of the places of all equal ones, from 1 on
    return ranks.masked_fill(rounded.isnan().any(1, keepdim=True), torch.nan)


def _windowed(planes: Tensor) -> Tensor:
    """Means under the Gaussian window, where it lies inside: (B, C, H, W) -> (B, C, H - side + 1, W
    - side + 1).
    """
    side = min(WINDOW, *planes.shape[2:])
    side -= 1 - side % 2
    steps = torch.arange(side, dtype=planes.dtype, device=planes.device) - side // 2
    kernel = torch.exp(-(steps**2) / (2 * SIGMA**2))
    return convolved(planes, kernel / kernel.sum())
