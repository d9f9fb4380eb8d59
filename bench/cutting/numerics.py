"""Compute over the spatial axes of signals, images and volumes, and divide with one guard.

Public XGrad-CAMs add an epsilon to each sum, although a sum may be negative. The division here adds
none.

Methods and metrics call these functions, so that each of them works for any number of axes and
treats a sum near zero in the same way.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
import torch.nn.functional as functional
from torch import Tensor

from axiom_bench.errors import InvalidParameter

XY = (-2, -1)  # the spatial axes of images only; see `axes`
# signals, images and volumes, by the number of their spatial axes
SPACES = {
    1: "L",
    2: "H, W",
    3: "D, H, W",
}
RESIZING = {1: "linear", 2: "bilinear", 3: "trilinear"}
TOLERANCE = {torch.float64: 1e-12}
DEFAULT_TOLERANCE = 1e-6


def axes(values: Tensor, first: int = 2) -> tuple[int, ...]:
    """Return the spatial axes: those after batch and channel of (B, K, *space), or all from the
    axis `first` on.
    """
    return tuple(range(first, values.ndim))


def over_space(values: Tensor, activations: Tensor) -> Tensor:
    """Reshape a number per channel, (B, K), to (B, K, 1, ...), which broadcasts to activations (B,
    K, *space).
    """
    return values.reshape(*values.shape, *(1 for _ in axes(activations)))


def resized(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Resize maps (n, *space) to (n, *size): linear, bilinear or trilinear, with
    align_corners=False.
    """
    mode = RESIZING[maps.ndim - 1]
    return functional.interpolate(maps[:, None], size=tuple(size), mode=mode, align_corners=False)[
        :, 0
    ]


def convolved(values: Tensor, kernel: Tensor) -> Tensor:
    """Convolve padded values (B, C, *space) with one kernel along each spatial axis, a separable
    convolution.
    """
    channels = values.shape[1]
    space = axes(values)
    convolve = getattr(functional, f"conv{len(space)}d")
    for axis in space:
        shape = [-1 if other_axis == axis else 1 for other_axis in space]
        axis_kernel = kernel.view(*shape)
        kernels = axis_kernel.expand(channels, 1, *axis_kernel.shape)
        values = convolve(values, kernels, groups=channels)
    return values


def dead_channels(activations: Tensor) -> Tensor:
    """Find the channels that are zero everywhere: (B, K, *space) -> bool (B, K). Ablating them
    changes nothing.
    """
    return activations.abs().amax(axes(activations)) == 0


def guarded_channels(activations: Tensor) -> Tensor:
    """Find the channels that aren't all zero but whose values cancel: (B, K, *space) -> bool (B,
    K).

    Their |sum F_k| <= tol * sum |F_k|. tol is 1e-6, in float64 1e-12: a few times the rounding of
    the sum itself.
    """
    tolerance = TOLERANCE.get(activations.dtype, DEFAULT_TOLERANCE)
    space = axes(activations)
    vanishing = activations.sum(space).abs() <= tolerance * activations.abs().sum(space)
    return vanishing & ~dead_channels(activations)


def guarded_divide(totals: Tensor, activations: Tensor) -> Tensor:
    """Compute totals_k / sum_xy F_k, and 0 for channels that are dead or guarded.

    Args:
        totals: The numerators, (B, K).
        activations: F, (B, K, *space).

    Returns:
        Weights, (B, K, 1, ...); for images (B, K, 1, 1).
    """
    sums = activations.sum(axes(activations))
    excluded = guarded_channels(activations) | dead_channels(activations)
    weights = torch.where(excluded, torch.zeros_like(sums), totals / sums.masked_fill(excluded, 1))
    return over_space(weights, activations)


def generators(images: Tensor, seed: int | str) -> list[torch.Generator]:
    """Return a CPU generator for each image (B, ...), seeded by the image's pixels as float32 and
    by `seed`.
    """
    return [_generator(image, seed) for image in images.detach().float().cpu()]


def _generator(image: Tensor, seed: int | str) -> torch.Generator:
    digest = hashlib.sha256(f"{seed} ".encode() + image.contiguous().numpy().tobytes()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big"))


def noisy(images: Tensor, sigma: float, draws: Sequence[torch.Generator]) -> Tensor:
    """Add normal noise to images (B, C, *space): `sigma` times each image's range, the next draw of
    its generator.

    Raises InvalidParameter for a negative sigma.
    """
    if not sigma >= 0:
        raise InvalidParameter(
            f"Invalid sigma={sigma}; the noise's sigma is a share of the image's range, 0 or more."
        )
    noise = [torch.randn(images.shape[1:], generator=draw, dtype=torch.float64) for draw in draws]
    image_axes = axes(images, 1)
    spread = images.amax(image_axes, keepdim=True) - images.amin(image_axes, keepdim=True)
    return images + sigma * spread * torch.stack(noise).to(images)
