"""Shapley values by subsets, against the definition: the mean gain over all orders of the channels."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations

import pytest
import torch
from torch import Tensor

from axiom_bench.embedded.planted import channel_shapley
from axiom_bench.errors import BenchError


def by_orders(score: Callable[[Tensor], Tensor], players: Tensor) -> Tensor:
    """The mean over all orders of what each player's joining gains: (K,) from players (K,)."""
    total = torch.zeros(len(players), dtype=torch.float64)
    orders = list(permutations(range(len(players))))
    for order in orders:
        joined = torch.zeros_like(players)
        before = score(joined[None])[0]
        for player in order:
            joined[player] = players[player]
            after = score(joined[None])[0]
            total[player] += after - before
            before = after
    return total / len(orders)


GAMES = {
    "sum": lambda rows: rows.sum(1),
    "sine of products": lambda rows: (rows[:, 0] * rows[:, -1] - rows[:, -1]).sin() + rows.prod(1),
    "maximum": lambda rows: rows.amax(1),
    "with a score of nothing": lambda rows: (rows.sum(1) - 1).relu() + 3,
}


@pytest.mark.parametrize("game", GAMES)
@pytest.mark.parametrize("channels", [1, 2, 5])
def test_it_is_the_mean_over_all_orders(game, channels):
    evidence = torch.randn(3, channels, dtype=torch.float64, generator=torch.Generator().manual_seed(channels)) + 1
    expected = torch.stack([by_orders(GAMES[game], row) for row in evidence])
    torch.testing.assert_close(channel_shapley(GAMES[game], evidence), expected, rtol=1e-12, atol=1e-12)


def test_they_add_up_to_the_score_beside_that_of_nothing():
    evidence = torch.rand(4, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    score = GAMES["with a score of nothing"]
    expected = score(evidence) - score(torch.zeros_like(evidence))
    torch.testing.assert_close(channel_shapley(score, evidence).sum(1), expected, rtol=1e-12, atol=0)


def test_float32_evidence_counts_in_float64():
    evidence = torch.rand(2, 3)
    values = channel_shapley(GAMES["sum"], evidence)
    assert values.dtype == torch.float64
    torch.testing.assert_close(values, evidence.double(), rtol=1e-14, atol=1e-14)


def test_more_channels_than_can_be_enumerated_are_refused():
    with pytest.raises(BenchError, match=r"13 channels take 2\^13 subsets; give at most 12"):
        channel_shapley(GAMES["sum"], torch.zeros(1, 13))
