"""Wrappers around a network change its layers' names, not its maps; a network that isn't ready is
one sentence.
"""

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

import axiom_bench as ab
from axiom_bench.errors import BenchError


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 3)
    )


class Average(nn.Module):
    """Without a forward."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model


class Training(Average):
    """As Lightning's modules."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.model(images)


class Silent(Training):
    """Its eval() returns None, as an overridden train() may."""

    def train(self, mode: bool = True) -> None:
        super().train(mode)


WRAPPED = {
    "DataParallel": (nn.DataParallel, ("1", "module.1")),
    "compiled": (torch.compile, ("1", "_orig_mod.1")),
    "averaged": (AveragedModel, ("1", "module.1")),
    "both": (lambda model: nn.DataParallel(torch.compile(model)), ("1", "module._orig_mod.1")),
    "without a forward": (Average, ("1",)),
    "a part": (
        lambda model: nn.Sequential(nn.DataParallel(model[:2]), model[2:]),
        ("0.1", "0.module.1"),
    ),
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
        assert torch.equal(
            ab.explain(wrap(network()), layer, images, ["grad_cam"])["grad_cam"], expected
        )


def with_bias(values: list[float], device: str | None = None, mean: float = 0.0) -> nn.Module:
    model = network()
    model.register_buffer("mean", torch.tensor(mean))
    model[4].bias = nn.Parameter(torch.tensor(values, device=device))
    return model


NOT_READY = {
    "lazy": (
        lambda: nn.Sequential(nn.LazyConv2d(4, 3), *network()[1:]),
        r"'0\.weight' has no shape .*call the network",
    ),
    "meta": (lambda: with_bias([0.0, 0.0, 0.0], "meta"), r"'4\.bias' has no values"),
    "NaN in a buffer": (lambda: with_bias([0.0, 0.0, 0.0], mean=torch.nan), r"'mean' holds NaN"),
    "NaN": (lambda: with_bias([0.0, float("nan"), 0.0]), r"'4\.bias' holds NaN"),
}


@pytest.mark.parametrize("name", NOT_READY)
def test_a_network_that_is_not_ready_is_refused(name):
    make, message = NOT_READY[name]
    with pytest.raises(BenchError, match=message):
        ab.trace(make(), "1", torch.rand(1, 3, 16, 16))
