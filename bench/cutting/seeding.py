"""Random draws by image and seed: neither batch, order, precision nor device changes them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

from axiom_bench.errors import BenchError


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
