"""Max pooling by views equals torch's, bit by bit."""

from __future__ import annotations

import copy
from itertools import product

import pytest
import torch
from torch import nn

import axiom_bench as ab
from axiom_bench.cutting.model_copy import MaxPool2dByViews, pool_by_views

LAYERS = [
    (kernel, stride, padding, ceil_mode)
    for kernel, stride, padding, ceil_mode in product((1, 2, 3, (3, 2)), (None, 1, 2, 3), (0, 1), (False, True))
    if padding == 0 or kernel in (2, 3)
]


@pytest.mark.parametrize(("kernel", "stride", "padding", "ceil_mode"), LAYERS)
def test_equals_torch_bit_by_bit(kernel, stride, padding, ceil_mode):
    expected = nn.MaxPool2d(kernel, stride, padding, ceil_mode=ceil_mode)
    pooled = pool_by_views(copy.deepcopy(expected))
    assert type(pooled) is MaxPool2dByViews
    for height, width in ((8, 8), (7, 9), (5, 3), (13, 6)):
        maps = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(height))
        assert torch.equal(pooled(maps), expected(maps))
        assert torch.equal(pooled(maps[0]), expected(maps[0]))


def test_nan_and_infinity_are_propagated():
    maps = torch.tensor([[[[1.0, torch.nan, 2.0, 3.0], [0.0, 1.0, -torch.inf, torch.inf]]]])
    pooled = pool_by_views(nn.MaxPool2d(2))(maps)
    assert pooled.isnan().tolist() == [[[[True, False]]]]
    assert pooled[0, 0, 0, 1] == torch.inf


def test_gradient_of_ties_goes_to_the_first_element():
    maps = torch.ones(1, 1, 2, 2, requires_grad=True)
    pool_by_views(nn.MaxPool2d(2))(maps).sum().backward()
    assert maps.grad is not None
    assert maps.grad.tolist() == [[[[1.0, 0.0], [0.0, 0.0]]]]


def test_invalid_sizes_raise_the_error_of_torch():
    with pytest.raises(RuntimeError, match="too small"):
        pool_by_views(nn.MaxPool2d(3))(torch.ones(1, 1, 2, 2))


def test_indices_and_dilation_use_torch():
    maps = torch.randn(1, 2, 6, 6, generator=torch.Generator().manual_seed(0))
    for layer in (nn.MaxPool2d(2, return_indices=True), nn.MaxPool2d(2, dilation=2)):
        pooled, expected = pool_by_views(copy.deepcopy(layer))(maps), layer(maps)
        assert all(torch.equal(value, other) for value, other in zip(pooled, expected, strict=True))


def test_cut_does_not_modify_the_pooling_layers_of_the_model():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 5)).eval()
    cut = ab.cut(model, "1")
    assert type(model[1]) is nn.MaxPool2d
    assert type(cut.model.get_submodule("1")) is MaxPool2dByViews


def test_subclasses_of_max_pool_are_kept():
    class Own(nn.MaxPool2d):
        pass

    assert type(pool_by_views(Own(2))) is Own
