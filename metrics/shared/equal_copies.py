"""Numbers that say which perturbed copies of an image are the same, so that each is classified once for all methods."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor


def numbers_of_first(ranks: Tensor, counts: Tensor) -> Tensor:
    """A number for the set of pixels whose rank is below each count: (B, H', W') int64 and (B, n) -> int64 (B, n).

    Equal sets have equal numbers; different ones differ, but for one chance in 2^64. Each pixel has a random number of
    64 bits, the same in every run, and a set has the sum of its pixels'.
    """
    flat = ranks.flatten(1)
    of_rank = torch.zeros(len(flat), flat.shape[1] + 1, dtype=torch.int64, device=flat.device)
    of_rank.scatter_add_(1, flat + 1, _of_pixels(flat.shape[1]).to(flat.device).expand_as(flat))
    sums = of_rank.cumsum(1)  # entry r: of all pixels of ranks below r
    limits = counts.ceil().clamp(0, flat.shape[1]).long().to(flat.device)
    return sums.gather(1, limits)


def numbers_of_parts(parts: Tensor, count: int) -> Tensor:
    """A number for the set of pixels in each of `count` parts of an image: (B, H', W') int64 -> int64 (B, count)."""
    flat = parts.flatten(1)
    numbers = torch.zeros(len(flat), count, dtype=torch.int64, device=flat.device)
    return numbers.scatter_add_(1, flat, _of_pixels(flat.shape[1]).to(flat.device).expand_as(flat))


@lru_cache(maxsize=4)
def _of_pixels(pixels: int) -> Tensor:
    """A random number for each pixel: (pixels,) int64."""
    generator = torch.Generator().manual_seed(pixels)
    return torch.randint(-(2**63), 2**63 - 1, (pixels,), generator=generator, dtype=torch.int64)
