"""Max pooling by views equals torch's, bit by bit."""

import copy

import pytest
import torch
from torch import nn

import axiom_bench as ab
from axiom_bench.cutting.model_copy import MaxPool2dByViews, pool_by_views


@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize("stride", [None, 1, 2, 3])
@pytest.mark.parametrize(
    ("kernel", "padding"), [(1, 0), (2, 0), (3, 0), ((3, 2), 0), (2, 1), (3, 1)]
)
def test_equals_torch_bit_by_bit(kernel, stride, padding, ceil_mode):
    expected = nn.MaxPool2d(kernel, stride, padding, ceil_mode=ceil_mode)
    pooled = pool_by_views(copy.deepcopy(expected))
    assert type(pooled) is MaxPool2dByViews
    for height, width in ((8, 8), (7, 9), (5, 3), (13, 6)):
        maps = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(height))
        assert torch.equal(pooled(maps), expected(maps))
        assert torch.equal(pooled(maps[0]), expected(maps[0]))


def test_nan_infinity_ties_and_invalid_sizes():
    maps = torch.tensor([[[[1.0, torch.nan, 2.0, 3.0], [0.0, 1.0, -torch.inf, torch.inf]]]])
    expected = torch.tensor([[[[torch.nan, torch.inf]]]])
    torch.testing.assert_close(pool_by_views(nn.MaxPool2d(2))(maps), expected, equal_nan=True)
    ties = torch.ones(1, 1, 2, 2, requires_grad=True)
    pool_by_views(nn.MaxPool2d(2))(ties).sum().backward()
    # the gradient goes to the first element
    assert ties.grad.tolist() == [[[[1.0, 0.0], [0.0, 0.0]]]]
    with pytest.raises(RuntimeError, match="too small"):  # the error of torch
        pool_by_views(nn.MaxPool2d(3))(ties)


def test_indices_and_dilation_use_torch():
    maps = torch.randn(1, 2, 6, 6, generator=torch.Generator().manual_seed(0))
    for layer in (nn.MaxPool2d(2, return_indices=True), nn.MaxPool2d(2, dilation=2)):
        pooled = pool_by_views(copy.deepcopy(layer))(maps)
        for value, expected in zip(pooled, layer(maps), strict=True):
            assert torch.equal(value, expected)


def test_a_models_pooling_layers_and_subclasses_stay():
    layers = [nn.Conv2d(3, 4, 3), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 5)]
    model = nn.Sequential(*layers).eval()
    cut = ab.cut(model, "1")
    assert type(model[1]) is nn.MaxPool2d
    assert type(cut.model.get_submodule("1")) is MaxPool2dByViews
    subclass = type("Own", (nn.MaxPool2d,), {})
    assert type(pool_by_views(subclass(2))) is subclass
