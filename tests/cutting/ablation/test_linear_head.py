"""`linear_head` recognises global average pooling and one linear layer, and refuses any other head."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision import models

import axiom_bench as ab

POOL = (nn.AdaptiveAvgPool2d(1), nn.Flatten())


@pytest.mark.parametrize(("build", "layer", "fc"), [
    (models.resnet18, "layer4", "fc"),
    (models.mobilenet_v2, "features.18", "classifier.1"),
    (models.shufflenet_v2_x0_5, "conv5", "fc"),
    (models.densenet121, "features.norm5", None),
    (models.squeezenet1_1, "features.12", None),
    (models.alexnet, "features.12", None),
    (models.resnet18, "layer3", None),
    (models.mobilenet_v3_small, "features.12", None),
])  # fmt: skip
def test_linear_heads_of_torchvision(build, layer, fc):
    torch.manual_seed(0)
    model = build(weights=None)
    trace = ab.trace(model, layer, torch.randn(2, 3, 64, 64))
    if fc is None:
        with pytest.raises(ab.BenchError, match="not global average pooling and one linear layer"):
            trace.linear_head()
    else:
        assert torch.equal(trace.linear_head(), model.get_submodule(fc).weight)
        assert torch.equal(trace.scaled(output=2.0, inputs=4.0).linear_head(), 0.5 * model.get_submodule(fc).weight)


@pytest.mark.parametrize(("between", "linear"), [
    ((*POOL, nn.Dropout(), nn.Linear(4, 5)), True),
    ((nn.AvgPool2d(6), nn.Flatten(), nn.Linear(4, 5)), True),
    ((nn.AvgPool2d(5), nn.Flatten(), nn.Linear(4, 5)), False),
    ((nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(4, 5)), False),
    ((nn.ReLU(), *POOL, nn.Linear(4, 5)), False),
    ((*POOL, nn.Linear(4, 5), nn.Softmax(1)), False),
    ((*POOL, nn.Linear(4, 4), nn.Linear(4, 5)), False),
])  # fmt: skip
def test_linear_head_is_recognised(between, linear):
    trace = ab.trace(nn.Sequential(nn.Conv2d(3, 4, 1), *between), "0", torch.randn(2, 3, 6, 6))
    if linear:
        assert trace.linear_head().shape == (5, 4)
    else:
        with pytest.raises(ab.BenchError, match="choose the last layer before the pooling"):
            trace.linear_head()
