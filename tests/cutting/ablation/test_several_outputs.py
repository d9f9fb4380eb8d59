"""Drops of heads with operations that return several values, some of them None or indices."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import axiom_bench as ab
from tests.cutting.ablation.heads import naive_drops


class Attention(nn.Module):
    """Returns its output, and None for the attention weights."""

    def __init__(self) -> None:
        super().__init__()
        self.maps, self.mixing = nn.Conv2d(3, 4, 1), nn.MultiheadAttention(4, 2, batch_first=True)
        self.fc = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.maps(x).flatten(2).transpose(1, 2)
        mixed, _ = self.mixing(tokens, tokens, tokens, need_weights=False)
        return self.fc(mixed.mean(1))


class PoolWithPlaces(nn.Module):
    """Returns maxima and where they were."""

    def __init__(self) -> None:
        super().__init__()
        self.maps, self.mix = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 6, 1)
        self.pool, self.fc = nn.MaxPool2d(2, return_indices=True), nn.Linear(6 * 9, 5)

    def forward(self, x: Tensor) -> Tensor:
        maxima, _ = self.pool(self.mix(self.maps(x)))
        return self.fc(maxima.flatten(1))


@pytest.mark.parametrize("build", [Attention, PoolWithPlaces])
def test_drops_equal_the_double_loop(build: type[nn.Module]):
    torch.manual_seed(0)
    trace = ab.trace(build().double(), "maps", torch.randn(2, 3, 6, 6, dtype=torch.float64))
    assert trace.cut_model.head_graph(trace.activations, trace.network.sides) is not None
    # Brute force subtracts two scores near 1, so it rounds at about 1e-16.
    torch.testing.assert_close(trace.ablation_drops, naive_drops(trace), rtol=0, atol=1e-14)
