"""Random channel weights, a baseline: what any weighting of this layer would show."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from bench.trace import Trace


def random(trace: Trace, seed: int = 0) -> Tensor:
    """w_k from a standard normal, drawn anew for each image -> (B, K, 1, 1).

    The image's pixels and `seed` decide the draw: neither batch, order nor device changes it.
    """
    channels = trace.activations.shape[1]
    weights = torch.stack([_draw(image, channels, seed) for image in trace.images.detach().float().cpu()])
    return weights.to(trace.activations)[..., None, None]


def _draw(image: Tensor, channels: int, seed: int) -> Tensor:
    digest = hashlib.sha256(f"{seed} ".encode() + image.contiguous().numpy().tobytes()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big"))
    return torch.randn(channels, generator=generator, dtype=torch.float64)
