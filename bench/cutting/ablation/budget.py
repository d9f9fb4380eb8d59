"""A budget of ablations for inner layers: some channels exactly, the first-order term for the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

SAMPLE = 32  # of the channels that are left, ablated too
DEVIATIONS = 19**0.5  # no sum is further above its mean in more than one case of 20 (Cantelli), however skewed


@dataclass(frozen=True)
class Drops:
    """Drops of a batch.

    Attributes:
        values: (B, K).
        exact: (B, K) bool; the others are sum_xy g F.
        error: (B,) what sum_k |error of the drop| is at most, in 95 % of cases and but for the sample's error of the
            variance; 0 where all are exact.
    """

    values: Tensor
    exact: Tensor
    error: Tensor

    def __getitem__(self, rows: slice) -> Drops:
        return Drops(self.values[rows], self.exact[rows], self.error[rows])


def all_exact(values: Tensor) -> Drops:
    """Drops (B, K) without an error."""
    return Drops(values, torch.ones_like(values, dtype=torch.bool), values.new_zeros(len(values)))


def within(
    channels: int,
    first_order: Tensor,
    dead: Tensor,
    draws: Sequence[torch.Generator],
    ablate: Callable[[Tensor], Tensor],
) -> Drops:
    """Drops by at most channels + SAMPLE ablations an image.

    The channels of the largest |sum_xy g F| are ablated, and a random sample of those that are left. Mean and variance
    of the sample's |drop - sum_xy g F| tell the sum over the rest, which are others of the same kind.

    channels: how many. first_order: sum_xy g F, (B, K). dead: (B, K) bool. draws: a generator for each image.
    ablate: bool (B, K), the channels to ablate -> their drops, (B, K).
    """
    size = first_order.abs().masked_fill(dead, -1)
    ranked = size.argsort(dim=1, descending=True, stable=True)
    chosen = torch.zeros_like(dead).scatter(1, ranked[:, :channels], True) & ~dead
    sample = torch.stack([_sample(*row) for row in zip(~(dead | chosen), draws, strict=True)])
    values = ablate(chosen | sample)
    exact = chosen | sample | dead
    errors = (values - first_order).abs().double()
    mean = (errors * sample).sum(1) / SAMPLE
    variance = ((errors - mean[:, None]).square() * sample).sum(1) / (SAMPLE - 1)
    rest = (~exact).sum(1)
    error = rest * mean + DEVIATIONS * (variance * (rest + rest**2 / SAMPLE)).sqrt()
    return Drops(values.where(exact, first_order), exact, error.to(values))


def _sample(left: Tensor, draw: torch.Generator) -> Tensor:
    """SAMPLE of the channels that are left, all where there are no more: bool (K,) -> bool (K,)."""
    indices = left.nonzero()[:, 0]
    drawn = indices[torch.randperm(len(indices), generator=draw)[:SAMPLE].to(left.device)]
    return torch.zeros_like(left).index_fill(0, drawn, True)
