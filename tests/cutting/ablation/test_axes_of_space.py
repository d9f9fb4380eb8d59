"""Exact ablation of signals, images and volumes, against a loop over channels in float64."""

import pytest
import torch
from torch import nn

import axiom_bench as ab
from axiom_bench.data.torchvision_import import torchvision


def layer_class(axes, name):
    return getattr(nn, f"{name}{axes}d")


class Block(nn.Module):
    def __init__(self, axes):
        super().__init__()
        self.conv = layer_class(axes, "Conv")(6, 6, 3, padding=1)
        self.norm = layer_class(axes, "BatchNorm")(6)
        self.norm.running_mean.normal_()
        self.norm.running_var.uniform_(0.5, 2)

    def forward(self, x):
        return torch.relu(x + self.norm(self.conv(x)))


def pooled(axes):
    pool = layer_class(axes, "AdaptiveAvgPool")(1)
    return [pool, nn.Flatten(), nn.Dropout(), nn.Linear(6, 4)]


def flat(axes):
    pool = layer_class(axes, "MaxPool")(2)
    return [pool, nn.Flatten(), nn.LazyLinear(7), nn.ReLU(), nn.Linear(7, 4)]


def convolutions(axes):
    conv = layer_class(axes, "Conv")(6, 5, 3, 2, padding=1)
    pool = layer_class(axes, "AvgPool")(2)
    return [conv, nn.ReLU(), pool, nn.Flatten(), nn.LazyLinear(4)]


def dilated(axes):
    conv = layer_class(axes, "Conv")(6, 5, 2, dilation=2)
    return [conv, nn.GELU(), nn.Flatten(), nn.LazyLinear(4)]


def residual(axes):
    blocks = [Block(axes), Block(axes)]
    pool = layer_class(axes, "AdaptiveMaxPool")(1)
    return [*blocks, pool, nn.Flatten(), nn.Linear(6, 4)]


def classes(axes):
    conv = layer_class(axes, "Conv")(6, 4, 1)
    pool = layer_class(axes, "AdaptiveAvgPool")(1)
    return [conv, pool, nn.Flatten()]


def grouped(axes):
    conv = layer_class(axes, "Conv")(6, 6, 3, groups=6)
    return [nn.GroupNorm(2, 6), conv, nn.Flatten(), nn.LazyLinear(4)]


HEADS = [pooled, flat, convolutions, dilated, residual, classes, grouped]


def loop_over_channels(head, trace, channels):
    """Compute S - S_k with a pass per channel: (B, K)."""
    rows = torch.arange(len(trace))
    drops = []
    with torch.no_grad():
        for channel in channels:
            ablated = trace.activations.index_fill(1, torch.tensor([channel]), 0)
            drops.append(trace.scores - head(ablated)[rows, trace.targets])
    return torch.stack(drops, 1)


def assert_close(drops, expected, rounding):
    tolerance = rounding * expected.abs().max().item()
    torch.testing.assert_close(drops, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("layers", HEADS)
def test_drops_are_those_of_a_loop(axes, layers):
    torch.manual_seed(0)
    conv = layer_class(axes, "Conv")(2, 6, 3, padding=1)
    head = nn.Sequential(*layers(axes))
    network = nn.Sequential(conv, nn.ReLU(), head).double()
    sides = (9, 8, 10)[:axes]
    images = torch.randn(2, 2, *sides, dtype=torch.float64)
    network(images)  # for layers that are lazy
    trace = ab.trace(network.eval(), "1", images, [1, 3])
    # not by whole passes
    assert trace.cut_model.head_graph(trace.activations, trace.network.sides) is not None
    assert_close(trace.ablation_drops, loop_over_channels(head, trace, range(6)), 1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["r3d_18", "mc3_18"])
def test_drops_of_a_network_of_videos(name):
    torch.manual_seed(0)
    network = getattr(torchvision.models.video, name)(weights=None).double().eval()
    for layer in ("layer4", "layer4.0"):
        trace = ab.trace(network, layer, torch.randn(1, 3, 4, 32, 32, dtype=torch.float64))
        expected = loop_over_channels(trace.head, trace, range(0, 512, 100))
        assert_close(trace.ablation_drops[:, ::100], expected, 1e-10)
