"""The gradient of a wide linear layer in blocks equals torch's."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from axiom_bench.cutting.ablation.graph import BLOCK, WIDE, apply_linear


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("batch", [1, 5])
def test_value_and_gradient_equal_nn_linear(batch, bias):
    generator = torch.Generator().manual_seed(0)
    layer = nn.Linear(WIDE + BLOCK, 7, bias=bias).double()
    x = torch.randn(batch, WIDE + BLOCK, dtype=torch.float64, generator=generator, requires_grad=True)
    weights = torch.randn(batch, 7, dtype=torch.float64, generator=generator)
    value = apply_linear(layer, x)
    assert type(value.grad_fn).__name__ == "_WideLinearBackward"
    assert torch.equal(value, layer(x))
    blocked, expected = (torch.autograd.grad((y * weights).sum(), x)[0] for y in (value, layer(x)))
    # 1e-15: a sum of 7 products of numbers near 1 / sqrt(WIDE), in any order.
    torch.testing.assert_close(blocked, expected, rtol=0, atol=1e-15)


def test_second_derivative():
    layer = nn.Linear(WIDE, 3).double()
    x = torch.randn(2, WIDE, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    (first,) = torch.autograd.grad(apply_linear(layer, x).pow(2).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x)
    weight = layer.weight.detach()
    torch.testing.assert_close(second, (2 * weight.T @ weight).sum(0).expand(2, -1))


@pytest.mark.parametrize("inputs", [WIDE - BLOCK, WIDE + 1])
def test_narrow_layers_use_torch(inputs):
    x = torch.ones(2, inputs, requires_grad=True)
    assert type(apply_linear(nn.Linear(inputs, 3), x).grad_fn).__name__ == "AddmmBackward0"
