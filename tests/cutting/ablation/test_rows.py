"""The rank-one difference of attention equals that of two calls, and a wide layer's gradient in
blocks equals nn.Linear's.
"""

from unittest import mock

import pytest
import torch
from torch import nn

import axiom_bench as ab
from axiom_bench.cutting.ablation import rows
from axiom_bench.cutting.ablation.graph import BLOCK, WIDE, apply_linear
from axiom_bench.cutting.ablation.rows import attention_difference
from tests.cutting.ablation.heads import brute_force
from tests.cutting.conftest import Network


@pytest.mark.parametrize("bias", [True, False])
def test_difference_of_tokens_that_move_in_one_direction_equals_two_calls(bias: bool):
    torch.manual_seed(0)
    layer = nn.MultiheadAttention(6, 2, bias=bias, batch_first=True).double().eval()
    query = torch.randn(1, 2, 6).double()
    tokens = torch.randn(1, 5, 6).double()
    change = torch.randn(3, 5).double()
    direction = torch.randn(3, 6).double()
    actual = attention_difference(layer, query, tokens, change, direction)
    before, _ = layer(query, tokens, tokens)
    for row in range(3):
        moved = tokens + change[row][:, None] * direction[row]
        after, _ = layer(query, moved, moved)
        torch.testing.assert_close(actual[row], (after - before)[0], rtol=0, atol=1e-14)


def classifier(changed: str) -> Network:
    """Build a class token that attends to the layer's tokens; `changed` is what differs from plain
    attention.
    """

    def forward(net, x):
        tokens = net.maps(x).flatten(2).transpose(1, 2)
        query = net.token.expand(tokens.shape[0], -1, -1)
        if changed == "query":
            query = query + tokens.mean(1, keepdim=True)
        if changed == "features":
            tokens = net.linear(tokens)
        values = 2 * tokens if changed == "values" else tokens
        return net.fc(net.mixing(query, tokens, values, need_weights=False)[0][:, 0])

    added = {"add_zero_attn": changed == "zeros", "add_bias_kv": changed == "bias"}
    maps = nn.Conv2d(3, 4, 1)
    token = nn.Parameter(torch.randn(1, 1, 4))
    linear = nn.Linear(4, 4)
    mixing = nn.MultiheadAttention(4, 2, batch_first=True, **added)
    fc = nn.Linear(4, 5)
    return Network(forward, maps=maps, token=token, linear=linear, mixing=mixing, fc=fc)


@pytest.mark.parametrize("changed", ["nothing", "query", "features", "values", "zeros", "bias"])
def test_drops_equal_brute_force_with_and_without_the_rank_one_update(changed: str):
    torch.manual_seed(0)
    network = classifier(changed).double()
    images = torch.randn(2, 3, 3, 3).double()
    trace = ab.trace(network, "maps", images, torch.tensor([0, 3]))
    with mock.patch.object(rows, "attention_difference", wraps=attention_difference) as spy:
        drops = trace.ablation_drops
    assert spy.called == (changed in ("nothing", "features"))
    # Brute force subtracts two scores near 1, so it rounds at about 1e-16.
    torch.testing.assert_close(drops, brute_force(trace), rtol=0, atol=1e-14)


# WIDE + 1 isn't a number of whole blocks
@pytest.mark.parametrize("inputs", [WIDE + BLOCK, WIDE + 1])
@pytest.mark.parametrize(("batch", "bias"), [(1, False), (5, True)])
def test_value_and_gradient_equal_nn_linear(batch, bias, inputs):
    generator = torch.Generator().manual_seed(0)
    layer = nn.Linear(inputs, 7, bias=bias).double()
    x = torch.randn(batch, inputs, dtype=torch.float64, generator=generator, requires_grad=True)
    weights = torch.randn(batch, 7, dtype=torch.float64, generator=generator)
    value = apply_linear(layer, x)
    assert torch.equal(value, layer(x))
    (gradient,) = torch.autograd.grad((value * weights).sum(), x)
    (expected,) = torch.autograd.grad((layer(x) * weights).sum(), x)
    # 1e-15: a sum of 7 products of numbers near 1 / sqrt(WIDE), in any order.
    torch.testing.assert_close(gradient, expected, rtol=0, atol=1e-15)


def test_second_derivative():
    generator = torch.Generator().manual_seed(0)
    layer = nn.Linear(WIDE, 3).double()
    x = torch.randn(2, WIDE, dtype=torch.float64, generator=generator, requires_grad=True)
    (first,) = torch.autograd.grad(apply_linear(layer, x).pow(2).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x)
    weight = layer.weight.detach()
    torch.testing.assert_close(second, (2 * weight.T @ weight).sum(0).expand(2, -1))
