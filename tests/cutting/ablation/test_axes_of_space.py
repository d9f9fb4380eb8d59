"""Exact ablation of signals, images and volumes, against a loop over channels in float64."""

import pytest
import torch
from torch import nn

import axiom_bench as ab
from axiom_bench.data.torchvision_import import torchvision


def of(axes, name):
    return getattr(nn, f"{name}{axes}d")


class Block(nn.Module):
    def __init__(self, axes):
        super().__init__()
        self.conv, self.norm = of(axes, "Conv")(6, 6, 3, padding=1), of(axes, "BatchNorm")(6)
        self.norm.running_mean.normal_()
        self.norm.running_var.uniform_(0.5, 2)

    def forward(self, x):
        return torch.relu(x + self.norm(self.conv(x)))


HEADS = {
    "pooled": lambda n: (of(n, "AdaptiveAvgPool")(1), nn.Flatten(), nn.Dropout(), nn.Linear(6, 4)),
    "flat": lambda n: (
        of(n, "MaxPool")(2),
        nn.Flatten(),
        nn.LazyLinear(7),
        nn.ReLU(),
        nn.Linear(7, 4),
    ),
    "convolutions": lambda n: (
        of(n, "Conv")(6, 5, 3, 2, padding=1),
        nn.ReLU(),
        of(n, "AvgPool")(2),
        nn.Flatten(),
        nn.LazyLinear(4),
    ),
    "dilated": lambda n: (
        of(n, "Conv")(6, 5, 2, dilation=2),
        nn.GELU(),
        nn.Flatten(),
        nn.LazyLinear(4),
    ),
    "residual": lambda n: (
        Block(n),
        Block(n),
        of(n, "AdaptiveMaxPool")(1),
        nn.Flatten(),
        nn.Linear(6, 4),
    ),
    "classes": lambda n: (of(n, "Conv")(6, 4, 1), of(n, "AdaptiveAvgPool")(1), nn.Flatten()),
    "grouped": lambda n: (
        nn.GroupNorm(2, 6),
        of(n, "Conv")(6, 6, 3, groups=6),
        nn.Flatten(),
        nn.LazyLinear(4),
    ),
}


def one_by_one(head, trace, channels=None):
    """S - S_k by a pass for each channel: (B, K)."""
    F, rows = trace.activations, torch.arange(len(trace))
    with torch.no_grad():
        return torch.stack(
            [
                trace.scores
                - head(F.clone().index_fill_(1, torch.tensor([k]), 0))[rows, trace.targets]
                for k in channels or range(F.shape[1])
            ],
            1,
        )


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("name", HEADS)
def test_drops_are_those_of_a_loop(axes, name):
    torch.manual_seed(0)
    stem = (of(axes, "Conv")(2, 6, 3, padding=1), nn.ReLU())
    head = nn.Sequential(*HEADS[name](axes))
    network = nn.Sequential(*stem, head).double()
    images = torch.randn(2, 2, *(9, 8, 10)[:axes], dtype=torch.float64)
    network(images)  # for layers that are lazy
    trace = ab.trace(network.eval(), "1", images, [1, 3])
    # not by whole passes
    assert trace.cut_model.head_graph(trace.activations, trace.network.sides) is not None
    expected = one_by_one(head, trace)
    torch.testing.assert_close(
        trace.ablation_drops, expected, rtol=0, atol=1e-12 * expected.abs().max().item()
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["r3d_18", "mc3_18"])
def test_drops_of_a_network_of_videos(name):
    torch.manual_seed(0)
    network = getattr(torchvision.models.video, name)(weights=None).double().eval()
    for layer in ("layer4", "layer4.0"):
        trace = ab.trace(network, layer, torch.randn(1, 3, 4, 32, 32, dtype=torch.float64))
        expected = one_by_one(trace.head, trace, range(0, 512, 100))
        actual = trace.ablation_drops[:, ::100]
        torch.testing.assert_close(
            actual, expected, rtol=0, atol=1e-10 * expected.abs().max().item()
        )
