"""Random draws that belong to an image and a seed: neither batch, order, precision nor device changes them."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor


def generators(images: Tensor, seed: int) -> list[torch.Generator]:
    """A CPU generator for each image (B, ...), seeded by its pixels as float32 and by `seed`."""
    return [_generator(image, seed) for image in images.detach().float().cpu()]


def _generator(image: Tensor, seed: int) -> torch.Generator:
    digest = hashlib.sha256(f"{seed} ".encode() + image.contiguous().numpy().tobytes()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big"))
