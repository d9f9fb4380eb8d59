"""Images of any number of channels, as grey X-rays or the bands of a satellite."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import axiom_bench as ab
from axiom_bench import methods, metrics
from axiom_bench.evaluation.plugins import with_params


@pytest.fixture(params=[5, pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow)])
def channels(request: pytest.FixtureRequest) -> int:
    return int(request.param)


def network(channels: int) -> nn.Module:
    torch.manual_seed(0)
    body = [nn.Conv2d(channels, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 6, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4)).double().eval()


def images(channels: int) -> Tensor:
    return torch.randn(2, channels, 16, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_every_method_and_metric(channels):
    names = [name for name in methods.names() if methods.get(name).spec.library is None]
    others = images(channels).flip(0)
    batches = [ab.Batch(images(channels), ("a", "b"), torch.tensor([0, 3]), other_images=others)]
    table = ab.evaluate(network(channels), "3", batches, names, ["sensitivity_error_raw", "deletion_auc"])
    assert set(table["method"]) == set(names)
    assert "not_applicable" not in set(table["status"])
    every_metric = ab.evaluate(network(channels), "3", batches, ["xgrad_cam"], metrics.names())
    measured = every_metric[every_metric["status"] == "ok"]
    assert {"deletion_auc", "infidelity", "road_morf", "sensitivity_n"} <= set(measured["metric"])


def test_noise_of_every_channel(channels):
    noisy = with_params("method", "ss_cam", {"noise": "input"})
    trace = ab.trace(network(channels), "3", images(channels))
    assert noisy(trace).shape == (2, 6, 1, 1)
