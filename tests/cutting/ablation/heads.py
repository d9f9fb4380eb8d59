"""Heads of all kinds for the tests of exact ablation, and the drops by definition."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

import axiom_bench as ab
from axiom_bench.cutting.ablation.drops import brute_force_drops
from axiom_bench.cutting.ablation.graph import HeadGraph


def naive_drops(trace: ab.Trace, channels: Sequence[int] | None = None) -> Tensor:
    """One head pass per image and channel, two scores subtracted: the definition, in a double loop."""
    channels = range(trace.activations.shape[1]) if channels is None else channels
    drops = torch.zeros(len(trace), len(channels), dtype=trace.dtype)
    for image in range(len(trace)):
        row = trace[image : image + 1]
        for place, channel in enumerate(channels):
            ablated = row.activations.clone()
            ablated[:, channel] = 0
            drops[image, place] = (row.head(row.activations) - row.head(ablated))[0, row.targets[0]]
    return drops


def brute_force(trace: ab.Trace, memory: int = 2**28) -> Tensor:
    """The drops by batched whole passes through the head of the trace's cut."""
    cut, sides = trace.cut_model, trace.network.sides
    return brute_force_drops(cut.head, cut.trunk_and_head.side_kinds, trace.activations, sides, trace.targets, memory)


def head_graph(trace: ab.Trace) -> HeadGraph | None:
    """The head as the ablations read it; None where they run whole passes."""
    return trace.cut_model.head_graph(trace.activations, trace.network.sides)


def with_random_statistics(model: nn.Module) -> nn.Module:
    """Random weights and running statistics under which signals neither die nor explode, float64, eval."""
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)
            with torch.no_grad():
                module.bias.normal_(0, 0.2, generator=generator)
    return model.double().eval()


class Head(nn.Module):
    """A 1x1 convolution, then any head: the layer to cut is `maps`."""

    def __init__(self, head: nn.Module, channels: int = 6, signed: bool = False) -> None:
        super().__init__()
        self.maps = nn.Sequential(nn.Conv2d(3, channels, 1), nn.Identity() if signed else nn.ReLU())
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.maps(x))


class SqueezeExcite(nn.Module):
    """Channels scaled by a gate that all of them decide."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gate = nn.Linear(channels, channels)
        self.fc = nn.Linear(channels, 7)

    def forward(self, x: Tensor) -> Tensor:
        gate = torch.sigmoid(self.gate(x.mean((2, 3))))
        return self.fc((x * gate[:, :, None, None]).mean((2, 3)))


class Functional(nn.Module):
    """The same operations as functions and methods, in place where they can be, and a batch size in a view."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6 * 9, 8), nn.Linear(8, 7)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.max_pool2d(functional.relu(x, inplace=True), 2)
        x = functional.dropout(x.view(x.size(0), -1), 0.5, self.training)
        hidden = self.first(x)
        hidden += 1
        return self.last(hidden.relu_()) * 2


class Split(nn.Module):
    """Chunks, a concatenation, a channel shuffle and a product of two changed values."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1, groups=3)
        self.fc = nn.Linear(6, 7)

    def forward(self, x: Tensor) -> Tensor:
        left, right = x.chunk(2, 1)
        x = torch.cat((right, torch.tanh(self.conv(left))), 1)
        b, c, h, w = x.shape
        x = x.view(b, 2, c // 2, h, w).transpose(1, 2).reshape(b, c, h, w)
        x = x * torch.sigmoid(x.mean((2, 3), keepdim=True))
        return functional.log_softmax(self.fc(functional.adaptive_avg_pool2d(x, 1).flatten(1)), dim=1)


class TwicePooled(nn.Module):
    """One value with two users, of which one is behind the other."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(6, 7, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(x) + x + x
        scores = self.conv(x)
        return scores.amax((2, 3)) - scores.mean((2, 3))


class Attention(nn.Module):
    """Returns its output, and None for the attention weights."""

    def __init__(self) -> None:
        super().__init__()
        self.mixing, self.fc = nn.MultiheadAttention(6, 2, batch_first=True), nn.Linear(6, 7)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(2).transpose(1, 2)
        mixed, _ = self.mixing(tokens, tokens, tokens, need_weights=False)
        return self.fc(mixed.mean(1))


class PoolWithPlaces(nn.Module):
    """Returns maxima and where they were."""

    def __init__(self) -> None:
        super().__init__()
        self.mix, self.pool, self.fc = nn.Conv2d(6, 6, 1), nn.MaxPool2d(2, return_indices=True), nn.Linear(6 * 9, 7)

    def forward(self, x: Tensor) -> Tensor:
        maxima, _ = self.pool(self.mix(x))
        return self.fc(maxima.flatten(1))


class GateOnSkip(nn.Module):
    """A gate (B, 3, 1, 1) of the layer's maps is added to a skip connection (B, 3, H, W) and a size, and convolved."""

    def __init__(self) -> None:
        super().__init__()
        self.maps, self.mix = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 3, 1)
        self.conv, self.fc = nn.Conv2d(3, 5, 3, padding=1), nn.Linear(5 * 36, 7)

    def forward(self, x: Tensor) -> Tensor:
        gate = self.mix(self.maps(x).mean((2, 3), keepdim=True))
        return self.fc(torch.relu(self.conv(gate + x + gate.size(1))).flatten(1))


def fully_connected(*activation: nn.Module) -> nn.Module:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(6 * 36, 16), *activation, nn.Linear(16, 12), *activation, nn.Linear(12, 7)
    )


HEADS = {
    "pool_linear": lambda: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(), nn.Linear(6, 7)),
    "fully_connected_relu": lambda: fully_connected(nn.ReLU(inplace=True), nn.Dropout()),
    "fully_connected_relu6": lambda: fully_connected(nn.ReLU6()),
    "fully_connected_gelu": lambda: fully_connected(nn.GELU()),
    "linear_only": lambda: nn.Sequential(nn.Flatten(), nn.Linear(6 * 36, 7)),
    "pool_to_two": lambda: nn.Sequential(
        nn.BatchNorm2d(6), nn.SiLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(24, 7)
    ),
    "class_maps": lambda: nn.Sequential(nn.Conv2d(6, 7, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
    "class_maps_3x3": lambda: nn.Sequential(
        nn.Conv2d(6, 7, 3, 2, 1), nn.Sigmoid(), nn.AvgPool2d(3), nn.Flatten(1), nn.Identity()
    ),
    "depthwise": lambda: nn.Sequential(
        nn.Conv2d(6, 6, 3, groups=6), nn.Hardswish(), nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(6, 7)
    ),
    "convolutions": lambda: nn.Sequential(
        nn.Conv2d(6, 5, 3, 2, 1), nn.BatchNorm2d(5), nn.ReLU(), nn.Conv2d(5, 8, 3, padding="same"), nn.ReLU(),
        nn.MaxPool2d(3), nn.Flatten(), nn.Linear(8, 7),
    ),
    "reflected_padding": lambda: nn.Sequential(
        nn.Conv2d(6, 5, 3, padding=1, padding_mode="reflect"), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 7)
    ),
    "layer_norm": lambda: nn.Sequential(nn.Flatten(), nn.LayerNorm(6 * 36), nn.Linear(6 * 36, 7)),
    "squeeze_excite": lambda: SqueezeExcite(6),
    "functional": Functional,
    "split": Split,
    "twice_pooled": TwicePooled,
    "attention": Attention,
    "pool_with_places": PoolWithPlaces,
    "pool_only": lambda: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()),
    "softmax": lambda: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 7), nn.Softmax(1)),
}  # fmt: skip
