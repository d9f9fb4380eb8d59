"""The one guarded division: public XGrad-CAMs add an epsilon each to a sum that may be negative; this adds none."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

from axiom_bench.errors import BenchError

XY = (-2, -1)
TOLERANCE = {torch.float64: 1e-12}
DEFAULT_TOLERANCE = 1e-6


def dead_channels(activations: Tensor) -> Tensor:
    """Channels that are zero everywhere: (B, K, H, W) -> bool (B, K). Their ablation changes nothing."""
    return activations.abs().amax(XY) == 0


def guarded_channels(activations: Tensor) -> Tensor:
    """Channels that aren't all zero but whose values cancel: |sum F_k| <= tol * sum |F_k|. (B, K, H, W) -> bool (B, K).

    tol is 1e-6, in float64 1e-12: a few times the rounding of the sum itself.
    """
    tolerance = TOLERANCE.get(activations.dtype, DEFAULT_TOLERANCE)
    vanishing = activations.sum(XY).abs() <= tolerance * activations.abs().sum(XY)
    return vanishing & ~dead_channels(activations)


def guarded_divide(totals: Tensor, activations: Tensor) -> Tensor:
    """totals_k / sum_xy F_k, and 0 where channel k is dead or guarded.

    totals: (B, K). activations: (B, K, H, W). Returns weights (B, K, 1, 1).
    """
    sums = activations.sum(XY)
    excluded = guarded_channels(activations) | dead_channels(activations)
    weights = torch.where(excluded, torch.zeros_like(sums), totals / sums.masked_fill(excluded, 1))
    return weights[..., None, None]


def generators(images: Tensor, seed: int | str) -> list[torch.Generator]:
    """A CPU generator for each image (B, ...), seeded by its pixels as float32 and by `seed`."""
    return [_generator(image, seed) for image in images.detach().float().cpu()]


def _generator(image: Tensor, seed: int | str) -> torch.Generator:
    digest = hashlib.sha256(f"{seed} ".encode() + image.contiguous().numpy().tobytes()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big"))


def noisy(images: Tensor, sigma: float, draws: Sequence[torch.Generator]) -> Tensor:
    """images + normal noise, `sigma` times each image's range, the next draw of its generator: (B, 3, H', W').

    Raises BenchError for a negative sigma.
    """
    if not sigma >= 0:
        raise BenchError(f"Invalid sigma={sigma}; the noise's sigma is a share of the image's range, 0 or more.")
    noise = [torch.randn(images.shape[1:], generator=draw, dtype=torch.float64) for draw in draws]
    spread = images.amax((1, 2, 3), keepdim=True) - images.amin((1, 2, 3), keepdim=True)
    return images + sigma * spread * torch.stack(noise).to(images)
