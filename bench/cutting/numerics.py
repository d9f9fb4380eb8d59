"""The axes of space of signals, images and volumes, and the one guarded division: public XGrad-CAMs add an epsilon each
to a sum that may be negative; this adds none."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
import torch.nn.functional as functional
from torch import Tensor

from axiom_bench.errors import BenchError

XY = (-2, -1)  # of images alone; see `axes`
SPACES = {1: "L", 2: "H, W", 3: "D, H, W"}  # of signals, images and volumes, by the number of axes
RESIZING = {1: "linear", 2: "bilinear", 3: "trilinear"}
TOLERANCE = {torch.float64: 1e-12}
DEFAULT_TOLERANCE = 1e-6


def axes(values: Tensor, first: int = 2) -> tuple[int, ...]:
    """The axes of space: those behind batch and channel of (B, K, *space), or from another first one on, as of maps."""
    return tuple(range(first, values.ndim))


def over_space(values: Tensor, activations: Tensor) -> Tensor:
    """A number for each channel, (B, K), in a shape that broadcasts to activations (B, K, *space): (B, K, 1, ...)."""
    return values.reshape(*values.shape, *(1 for _ in axes(activations)))


def resized(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Linear, bilinear or trilinear, align_corners=False: (n, *space) -> (n, *size)."""
    mode = RESIZING[maps.ndim - 1]
    return functional.interpolate(maps[:, None], size=tuple(size), mode=mode, align_corners=False)[:, 0]


def convolved(values: Tensor, kernel: Tensor) -> Tensor:
    """The separable convolution of padded values (B, C, *space) with one kernel along each axis of space."""
    channels, space = values.shape[1], axes(values)
    for axis in space:
        along = kernel.view(*(-1 if each == axis else 1 for each in space))
        kernels = along.expand(channels, 1, *along.shape)
        values = getattr(functional, f"conv{len(space)}d")(values, kernels, groups=channels)
    return values


def dead_channels(activations: Tensor) -> Tensor:
    """Channels that are zero everywhere: (B, K, *space) -> bool (B, K). Their ablation changes nothing."""
    return activations.abs().amax(axes(activations)) == 0


def guarded_channels(activations: Tensor) -> Tensor:
    """Channels that aren't all zero but whose values cancel: |sum F_k| <= tol * sum |F_k|. (B, K, ...) -> bool (B, K).

    tol is 1e-6, in float64 1e-12: a few times the rounding of the sum itself.
    """
    tolerance = TOLERANCE.get(activations.dtype, DEFAULT_TOLERANCE)
    space = axes(activations)
    vanishing = activations.sum(space).abs() <= tolerance * activations.abs().sum(space)
    return vanishing & ~dead_channels(activations)


def guarded_divide(totals: Tensor, activations: Tensor) -> Tensor:
    """totals_k / sum_xy F_k, and 0 where channel k is dead or guarded.

    totals: (B, K). activations: (B, K, *space). Returns weights (B, K, 1, ...), (B, K, 1, 1) of images.
    """
    sums = activations.sum(axes(activations))
    excluded = guarded_channels(activations) | dead_channels(activations)
    weights = torch.where(excluded, torch.zeros_like(sums), totals / sums.masked_fill(excluded, 1))
    return over_space(weights, activations)


def generators(images: Tensor, seed: int | str) -> list[torch.Generator]:
    """A CPU generator for each image (B, ...), seeded by its pixels as float32 and by `seed`."""
    return [_generator(image, seed) for image in images.detach().float().cpu()]


def _generator(image: Tensor, seed: int | str) -> torch.Generator:
    digest = hashlib.sha256(f"{seed} ".encode() + image.contiguous().numpy().tobytes()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big"))


def noisy(images: Tensor, sigma: float, draws: Sequence[torch.Generator]) -> Tensor:
    """images + normal noise, `sigma` times each image's range, the next draw of its generator: (B, C, *space).

    Raises BenchError for a negative sigma.
    """
    if not sigma >= 0:
        raise BenchError(f"Invalid sigma={sigma}; the noise's sigma is a share of the image's range, 0 or more.")
    noise = [torch.randn(images.shape[1:], generator=draw, dtype=torch.float64) for draw in draws]
    of_image = axes(images, 1)
    spread = images.amax(of_image, keepdim=True) - images.amin(of_image, keepdim=True)
    return images + sigma * spread * torch.stack(noise).to(images)
