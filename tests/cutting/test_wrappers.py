"""Wrappers around a network change its layers' names, not its maps, and a network that isn't ready
is refused.
"""

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

import axiom_bench as ab
from axiom_bench.errors import BenchError


def network() -> nn.Sequential:
    torch.manual_seed(0)
    pool = nn.AdaptiveAvgPool2d(2)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), pool, nn.Flatten(), nn.Linear(16, 3))


class Average(nn.Module):
    """A wrapper without a forward."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model


class Training(Average):
    """A wrapper like Lightning's modules."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.model(images)


class Silent(Training):
    """Its eval() returns None, as an overridden train() may."""

    def train(self, mode: bool = True) -> None:
        super().train(mode)


def with_a_part_in_parallel(model: nn.Sequential) -> nn.Module:
    return nn.Sequential(nn.DataParallel(model[:2]), model[2:])


# name: (the wrapper, the names of the layer)
WRAPPED = {
    "DataParallel": (nn.DataParallel, ("1", "module.1")),
    "compiled": (torch.compile, ("1", "_orig_mod.1")),
    "averaged": (AveragedModel, ("1", "module.1")),
    "both": (lambda model: nn.DataParallel(torch.compile(model)), ("1", "module._orig_mod.1")),
    "without a forward": (Average, ("1",)),
    "a part": (with_a_part_in_parallel, ("0.1", "0.module.1")),
    "for training": (Training, ("1", "model.1")),
    "silent": (Silent, ("model.1",)),
    "in training mode": (nn.Module.train, ("1",)),
}


@pytest.mark.parametrize("name", WRAPPED)
def test_maps_are_the_network_s(name):
    wrap, layers = WRAPPED[name]
    images = torch.rand(2, 3, 16, 16)
    expected = ab.explain(network(), "1", images, ["grad_cam"])["grad_cam"]
    for layer in layers:
        maps = ab.explain(wrap(network()), layer, images, ["grad_cam"])
        assert torch.equal(maps["grad_cam"], expected)


def lazy() -> nn.Module:
    return nn.Sequential(nn.LazyConv2d(4, 3), *network()[1:])


def bias_on_meta_device() -> nn.Module:
    model = network()
    model[4].bias = nn.Parameter(torch.zeros(3, device="meta"))
    return model


def nan_in_bias() -> nn.Module:
    model = network()
    model[4].bias = nn.Parameter(torch.tensor([0.0, torch.nan, 0.0]))
    return model


def nan_in_buffer() -> nn.Module:
    model = network()
    model.register_buffer("mean", torch.tensor(torch.nan))
    return model


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (lazy, r"'0\.weight' has no shape .*call the network"),
        (bias_on_meta_device, r"'4\.bias' has no values"),
        (nan_in_buffer, r"'mean' holds NaN"),
        (nan_in_bias, r"'4\.bias' holds NaN"),
    ],
)
def test_a_network_that_is_not_ready_is_refused(build, sentence):
    model = build()
    with pytest.raises(BenchError, match=sentence):
        ab.trace(model, "1", torch.rand(1, 3, 16, 16))
