"""Heads of all kinds for the tests of exact ablation, and the drops by definition."""

from collections.abc import Sequence

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

import axiom_bench as ab
from axiom_bench.cutting.ablation.drops import brute_force_drops
from axiom_bench.cutting.ablation.graph import HeadGraph
from tests.cutting.conftest import Network


def naive_drops(trace: ab.Trace, channels: Sequence[int] | None = None) -> Tensor:
    """Compute the drops by their definition: two scores subtracted, per image and channel."""
    channels = range(trace.activations.shape[1]) if channels is None else channels
    drops = torch.zeros(len(trace), len(channels), dtype=trace.dtype)
    for image in range(len(trace)):
        row = trace[image : image + 1]
        target = row.targets[0]
        for place, channel in enumerate(channels):
            ablated = row.activations.clone()
            ablated[:, channel] = 0
            drops_of_logits = row.head(row.activations) - row.head(ablated)
            drops[image, place] = drops_of_logits[0, target]
    return drops


def brute_force(trace: ab.Trace, memory: int = 2**28) -> Tensor:
    """Compute the drops by batched whole passes through the head of the trace's cut."""
    return brute_force_drops(
        trace.cut_model.head,
        trace.cut_model.trunk_and_head.side_kinds,
        trace.activations,
        trace.network.sides,
        trace.targets[:, None],
        memory,
    )[:, 0]


def head_graph(trace: ab.Trace) -> HeadGraph | None:
    """Return the head as the ablations read it, or None if they run whole passes."""
    return trace.cut_model.head_graph(trace.activations, trace.network.sides)


def with_random_statistics(model: nn.Module) -> nn.Module:
    """Random weights and running statistics under which signals neither die nor explode, float64,
    eval.
    """
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)
            with torch.no_grad():
                module.bias.normal_(0, 0.2, generator=generator)
    return model.double().eval()


def behind_maps(head: nn.Module, channels: int = 6, signed: bool = False) -> Network:
    """A 1x1 convolution, then any head: the layer to cut is `maps`."""
    maps = nn.Sequential(nn.Conv2d(3, channels, 1), nn.Identity() if signed else nn.ReLU())
    return Network(lambda net, x: net.head(net.maps(x)), maps=maps, head=head)


def squeeze_excite(net, x):
    """Channels scaled by a gate that all of them decide."""
    gate = torch.sigmoid(net.gate(x.mean((2, 3))))
    return net.fc((x * gate[:, :, None, None]).mean((2, 3)))


def as_functions(net, x):
    """The same operations as functions and methods, in place where they can be, and a batch size in
    a view.
    """
    x = functional.max_pool2d(functional.relu(x, inplace=True), 2)
    hidden = net.first(functional.dropout(x.view(x.size(0), -1), 0.5, net.training))
    hidden += 1
    return net.last(hidden.relu_()) * 2


def split(net, x):
    """Chunks, a concatenation, a channel shuffle and a product of two changed values."""
    left, right = x.chunk(2, 1)
    x = torch.cat((right, torch.tanh(net.conv(left))), 1)
    b, c, h, w = x.shape
    x = x.view(b, 2, c // 2, h, w).transpose(1, 2).reshape(b, c, h, w)
    x = x * torch.sigmoid(x.mean((2, 3), keepdim=True))
    return functional.log_softmax(net.fc(functional.adaptive_avg_pool2d(x, 1).flatten(1)), dim=1)


def twice_pooled(net, x):
    """One value with two users, of which one is behind the other."""
    x = torch.relu(x) + x + x
    scores = net.conv(x)
    return scores.amax((2, 3)) - scores.mean((2, 3))


def attention(net, x):
    """nn.MultiheadAttention returns its output, and None for the attention weights."""
    tokens = x.flatten(2).transpose(1, 2)
    mixed, _ = net.mixing(tokens, tokens, tokens, need_weights=False)
    return net.fc(mixed.mean(1))


def pool_with_places(net, x):
    """Pooling returns maxima and where they were."""
    maxima, _ = net.pool(net.mix(x))
    return net.fc(maxima.flatten(1))


def gate_on_skip() -> Network:
    """A gate (B, 3, 1, 1) of the layer's maps is added to a skip connection (B, 3, H, W) and a
    size, and convolved.
    """

    def forward(net, x):
        gate = net.mix(net.maps(x).mean((2, 3), keepdim=True))
        return net.fc(torch.relu(net.conv(gate + x + gate.size(1))).flatten(1))

    maps = nn.Conv2d(3, 4, 1)
    mix = nn.Conv2d(4, 3, 1)
    conv = nn.Conv2d(3, 5, 3, padding=1)
    return Network(forward, maps=maps, mix=mix, conv=conv, fc=nn.Linear(5 * 36, 7))


def fully_connected(*activation: nn.Module) -> nn.Module:
    first = nn.Linear(6 * 36, 16)
    second = nn.Linear(16, 12)
    return nn.Sequential(nn.Flatten(), first, *activation, second, *activation, nn.Linear(12, 7))


def pooled(*after: nn.Module) -> nn.Module:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), *after)


def convolutions() -> nn.Module:
    first = [nn.Conv2d(6, 5, 3, 2, 1), nn.BatchNorm2d(5), nn.ReLU()]
    second = [nn.Conv2d(5, 8, 3, padding="same"), nn.ReLU(), nn.MaxPool2d(3)]
    return nn.Sequential(*first, *second, nn.Flatten(), nn.Linear(8, 7))


def depthwise() -> nn.Module:
    features = [nn.Conv2d(6, 6, 3, groups=6), nn.Hardswish()]
    return nn.Sequential(*features, nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(6, 7))


def pool_to_two() -> nn.Module:
    pool = nn.AdaptiveAvgPool2d(2)
    return nn.Sequential(nn.BatchNorm2d(6), nn.SiLU(), pool, nn.Flatten(), nn.Linear(24, 7))


def class_maps_3x3() -> nn.Module:
    conv = nn.Conv2d(6, 7, 3, 2, 1)
    return nn.Sequential(conv, nn.Sigmoid(), nn.AvgPool2d(3), nn.Flatten(1), nn.Identity())


def reflected_padding() -> nn.Module:
    conv = nn.Conv2d(6, 5, 3, padding=1, padding_mode="reflect")
    return nn.Sequential(conv, pooled(nn.Linear(5, 7)))


def split_head() -> nn.Module:
    conv = nn.Conv2d(3, 3, 3, padding=1, groups=3)
    return Network(split, conv=conv, fc=nn.Linear(6, 7))


def attention_head() -> nn.Module:
    mixing = nn.MultiheadAttention(6, 2, batch_first=True)
    return Network(attention, mixing=mixing, fc=nn.Linear(6, 7))


def head_of_places() -> nn.Module:
    mix = nn.Conv2d(6, 6, 1)
    pool = nn.MaxPool2d(2, return_indices=True)
    return Network(pool_with_places, mix=mix, pool=pool, fc=nn.Linear(6 * 9, 7))


HEADS = {
    "pool_linear": lambda: pooled(nn.Dropout(), nn.Linear(6, 7)),
    "fully_connected_relu": lambda: fully_connected(nn.ReLU(inplace=True), nn.Dropout()),
    "fully_connected_relu6": lambda: fully_connected(nn.ReLU6()),
    "fully_connected_gelu": lambda: fully_connected(nn.GELU()),
    "linear_only": lambda: nn.Sequential(nn.Flatten(), nn.Linear(6 * 36, 7)),
    "pool_to_two": pool_to_two,
    "class_maps": lambda: nn.Sequential(nn.Conv2d(6, 7, 1), nn.ReLU(), pooled()),
    "class_maps_3x3": class_maps_3x3,
    "depthwise": depthwise,
    "convolutions": convolutions,
    "reflected_padding": reflected_padding,
    "layer_norm": lambda: nn.Sequential(nn.Flatten(), nn.LayerNorm(6 * 36), nn.Linear(6 * 36, 7)),
    "squeeze_excite": lambda: Network(squeeze_excite, gate=nn.Linear(6, 6), fc=nn.Linear(6, 7)),
    "functional": lambda: Network(as_functions, first=nn.Linear(6 * 9, 8), last=nn.Linear(8, 7)),
    "split": split_head,
    "twice_pooled": lambda: Network(twice_pooled, conv=nn.Conv2d(6, 7, 1)),
    "attention": attention_head,
    "pool_with_places": head_of_places,
    "pool_only": pooled,
    "softmax": lambda: pooled(nn.Linear(6, 7), nn.Softmax(1)),
}
