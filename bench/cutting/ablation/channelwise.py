"""The first stage of the head: operations that keep channels apart carry all K ablations in one tensor.

While channels don't mix, ablating channel k changes channel k alone. So the K differences, one per ablation, fit in a
tensor of the size of the activations themselves: difference[b, k] is what ablation k does to channel k of image b.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, fx, nn

from axiom_bench.cutting.ablation.graph import (
    ADD,
    AVERAGE_POOL,
    CLAMP,
    ELEMENTWISE,
    IDENTITY,
    MAX_POOL,
    MEAN,
    RESHAPE,
    HeadGraph,
    Values,
    batch_norm_scale,
    clamp_difference,
    first_input,
    spatial_mean,
)

Differences = dict[fx.Node, "Channelwise"]


@dataclass(frozen=True)
class Channelwise:
    """difference: (G, K, h, w), or (G, K, features) once the maps are flattened to (G, K * features)."""

    difference: Tensor

    @property
    def flat(self) -> bool:
        """Whether the value itself is (G, K * features)."""
        return self.difference.ndim == 3

    def as_channels(self, value: Tensor) -> Tensor:
        """A node's value in the shape of its differences."""
        return value.reshape(self.difference.shape)


def channelwise_differences(head: HeadGraph, values: Values) -> Differences:
    """The differences of every node that channel-by-channel operations reach from the activations."""
    start = values[head.activations]
    differences: Differences = {head.activations: Channelwise(-start)}
    for node in head.nodes:
        sources = [source for source in node.all_input_nodes if source in differences]
        if not sources or not isinstance(values.get(node), Tensor) or node in head.tail or node is head.class_layer:
            continue
        if all(source in differences or not _moves(source, values) for source in node.all_input_nodes):
            passed = _pass(head, node, [differences[source] for source in sources], values)
            if passed is not None:
                differences[node] = passed
    return differences


def _pass(head: HeadGraph, node: fx.Node, sources: list[Channelwise], values: Values) -> Channelwise | None:
    name = head.operation(node)
    if name in ADD:
        return _add(node, sources, values)
    if len(sources) > 1 or first_input(node) is not node.all_input_nodes[0]:
        return None
    (source,) = sources
    x = values[node.all_input_nodes[0]]
    if name in IDENTITY:
        return source
    if name in CLAMP:
        return Channelwise(clamp_difference(source.as_channels(x), source.difference, *CLAMP[name]))
    if name in ELEMENTWISE:
        return Channelwise(_evaluated_difference(head, node, source.as_channels(x), source.difference))
    if name in RESHAPE:
        return _reshape(source, values[node])
    if source.flat:
        return None
    return _spatial(head, node, x, source.difference)


def _spatial(head: HeadGraph, node: fx.Node, x: Tensor, difference: Tensor) -> Channelwise | None:
    """Operations on maps (G, K, h, w)."""
    name = head.operation(node)
    if name in MAX_POOL:
        return Channelwise(_evaluated_difference(head, node, x, difference))
    if name in AVERAGE_POOL:
        return Channelwise(head.apply(node, lambda source: difference))
    if name in MEAN and spatial_mean(node):
        means = difference.mean((2, 3), keepdim=True)
        return Channelwise(means if node.kwargs.get("keepdim") or True in node.args[2:] else means.flatten(2))
    if name is nn.BatchNorm2d:
        scale = batch_norm_scale(head.layer(node))
        return None if scale is None else Channelwise(difference * scale)
    if name is nn.Conv2d:
        conv = head.layer(node)
        if conv.groups == conv.in_channels == conv.out_channels and conv.padding_mode == "zeros":
            return Channelwise(conv._conv_forward(difference, conv.weight, None))
    return None


def _add(node: fx.Node, sources: list[Channelwise], values: Values) -> Channelwise | None:
    if node.kwargs or any(source.difference.shape != values[node].shape for source in sources):
        return None
    # x + x names one node twice.
    times = [node.args.count(source) for source in node.all_input_nodes]
    if max(times) > 1:
        return Channelwise(sources[0].difference * max(times))
    total = sources[0].difference
    for source in sources[1:]:
        total = total + source.difference
    return Channelwise(total)


def _reshape(source: Channelwise, value: Tensor) -> Channelwise | None:
    batch, channels = source.difference.shape[:2]
    if value.ndim == 2 and value.shape[1] == source.difference[0].numel():
        return Channelwise(source.difference.reshape(batch, channels, -1))
    if value.ndim == 4 and value.shape[1] == channels:
        return Channelwise(source.difference.reshape(value.shape))
    return None


def _evaluated_difference(head: HeadGraph, node: fx.Node, x: Tensor, difference: Tensor) -> Tensor:
    moved = x + difference
    return head.apply(node, lambda source: moved) - head.apply(node, lambda source: x)


def _moves(node: fx.Node, values: Values) -> bool:
    """Whether a node's value changes with the activations: side values, attributes and sizes don't."""
    return node.op.startswith("call") and isinstance(values[node], Tensor)
