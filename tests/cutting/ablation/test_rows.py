"""Attention behind the layer: the rank-one difference equals the difference of two calls."""

from __future__ import annotations

from unittest import mock

import pytest
import torch
from torch import Tensor, nn

import axiom_bench as ab
from axiom_bench.cutting.ablation import rows
from axiom_bench.cutting.ablation.rows import attention_difference
from tests.cutting.ablation.heads import brute_force


@pytest.mark.parametrize("bias", [True, False])
def test_difference_of_one_changed_feature_equals_two_calls(bias: bool):
    torch.manual_seed(0)
    layer = nn.MultiheadAttention(6, 2, bias=bias, batch_first=True).double().eval()
    query, tokens = torch.randn(1, 2, 6).double(), torch.randn(1, 5, 6).double()
    change, features = torch.randn(3, 5).double(), torch.tensor([4, 0, 4])
    actual = attention_difference(layer, query, tokens, change, features)
    before, _ = layer(query, tokens, tokens)
    for row in range(3):
        moved = tokens.clone()
        for token in range(5):
            moved[0, token, features[row]] += change[row, token]
        after, _ = layer(query, moved, moved)
        torch.testing.assert_close(actual[row], (after - before)[0], rtol=0, atol=1e-14)


class Classifier(nn.Module):
    """A class token that looks at the layer's tokens; `changed` makes each attention another one."""

    def __init__(self, changed: str) -> None:
        super().__init__()
        self.changed, self.maps, self.token = changed, nn.Conv2d(3, 4, 1), nn.Parameter(torch.randn(1, 1, 4))
        added = {"add_zero_attn": changed == "zeros", "add_bias_kv": changed == "bias"}
        self.mixing = nn.MultiheadAttention(4, 2, batch_first=True, **added)
        self.linear, self.fc = nn.Linear(4, 4), nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.maps(x).flatten(2).transpose(1, 2)
        query = self.token.expand(tokens.shape[0], -1, -1)
        if self.changed == "query":
            query = query + tokens.mean(1, keepdim=True)
        if self.changed == "features":
            tokens = self.linear(tokens)
        values = 2 * tokens if self.changed == "values" else tokens
        return self.fc(self.mixing(query, tokens, values, need_weights=False)[0][:, 0])


@pytest.mark.parametrize("changed", ["nothing", "query", "features", "values", "zeros", "bias"])
def test_drops_equal_brute_force_with_and_without_the_rank_one_update(changed: str):
    torch.manual_seed(0)
    trace = ab.trace(Classifier(changed).double(), "maps", torch.randn(2, 3, 3, 3).double(), torch.tensor([0, 3]))
    with mock.patch.object(rows, "attention_difference", wraps=attention_difference) as spy:
        drops = trace.ablation_drops
    assert spy.called == (changed == "nothing")
    # Brute force subtracts two scores near 1, so it rounds at about 1e-16.
    torch.testing.assert_close(drops, brute_force(trace), rtol=0, atol=1e-14)


def test_float32_drops_match_float64():
    torch.manual_seed(0)
    model, images = Classifier("nothing"), torch.randn(2, 3, 3, 3)
    exact = ab.trace(model.double(), "maps", images.double(), torch.tensor([0, 3])).ablation_drops
    actual = ab.trace(model.float(), "maps", images, torch.tensor([0, 3])).ablation_drops
    torch.testing.assert_close(actual.double(), exact, rtol=0, atol=1e-6)
