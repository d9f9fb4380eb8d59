"""The first stages of the head: all ablations of all images at once, channel by channel and through linear layers.

While channels don't mix, ablating channel k changes channel k alone. So the K differences, one per ablation, fit in a
tensor of the size of the activations themselves. difference[b, k] is what ablation k does to channel k of image b, (G,
K, *space), or (G, K, features) once the maps are flattened to (G, K * features).

Heads that flatten and go on through linear layers and activations, as AlexNet's and VGG's, need no rows: the first
layer takes all K ablations of all images for its own work, dz = W_k d_k. What is behind is computed image by image,
because each image has hidden units of its own that no ablation moves.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, fx, nn

from axiom_bench.cutting.ablation.graph import (
    ADD,
    AVERAGE_POOL,
    BATCH_NORM,
    CLAMP,
    CONVOLUTION,
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
    is_output,
    spatial_mean,
)
from axiom_bench.cutting.numerics import axes

Differences = dict[fx.Node, Tensor]
# Below this share of a layer's units, or of the channels, gathering them is cheaper than a full product.
WORTH_GATHERING = 0.9
# Tensors of a layer's width that are alive at once: differences before and after, and two for work.
TENSORS_AT_ONCE = 4


class Blocks(NamedTuple):
    """What is computed together. images: behind the first product, whose differences a processor's cache holds.
    features: of the first product, rows of the weight whose pages a processor remembers. columns: of the products
    behind it, which are in the cache when they are multiplied."""

    images: int
    features: int
    columns: int


OF_PROCESSOR, OF_GPU = Blocks(1, 1024, 256), Blocks(*(sys.maxsize,) * 3)  # a GPU has all at once


def is_flat(value: Tensor) -> bool:
    """Whether a value is (G, K * features), whose differences are (G, K, features)."""
    return value.ndim == 2


def channelwise_differences(head: HeadGraph, values: Values) -> Differences:
    """The differences of every node that channel-by-channel operations reach from the activations."""
    start = values[head.activations]
    differences: Differences = {head.activations: -start}

    def is_constant(node: fx.Node) -> bool:  # side values, attributes and sizes
        return not (node.op.startswith("call") and isinstance(values[node], Tensor))

    for node in head.nodes:
        sources = [source for source in node.all_input_nodes if source in differences]
        if not sources or not isinstance(values.get(node), Tensor) or node in head.tail or node is head.class_layer:
            continue
        if all(source in differences or is_constant(source) for source in node.all_input_nodes):
            passed = _pass(head, node, [differences[source] for source in sources], values)
            if passed is not None:
                differences[node] = passed
    return differences


def _pass(head: HeadGraph, node: fx.Node, sources: list[Tensor], values: Values) -> Tensor | None:
    """The difference of one node; None where it isn't channel by channel."""
    name, value = head.operation(node), values[node]
    if name in ADD:
        return _add(node, sources, value)
    if len(sources) > 1 or first_input(node) is not node.all_input_nodes[0]:
        return None
    (difference,) = sources
    x = values[node.all_input_nodes[0]]
    if name in IDENTITY:
        return difference
    if name in CLAMP:
        return clamp_difference(x.reshape(difference.shape), difference, *CLAMP[name])
    if name in ELEMENTWISE:
        return head.evaluated_difference(node, x.reshape(difference.shape), difference)
    if name in RESHAPE:
        batch, channels = difference.shape[:2]
        if is_flat(value) and value.shape[1] == difference[0].numel():
            return difference.reshape(batch, channels, -1)
        is_maps = value.ndim == values[head.activations].ndim and value.shape[1] == channels
        return difference.reshape(value.shape) if is_maps else None
    return None if is_flat(x) else _spatial(head, node, x, difference)


def _spatial(head: HeadGraph, node: fx.Node, x: Tensor, difference: Tensor) -> Tensor | None:
    """Operations on maps (G, K, *space)."""
    name = head.operation(node)
    if name in MAX_POOL:
        return head.evaluated_difference(node, x, difference)
    if name in AVERAGE_POOL:
        return head.apply(node, lambda source: difference)
    if name in MEAN and spatial_mean(node, x):
        means = difference.mean(axes(x), keepdim=True)
        return means if node.kwargs.get("keepdim") or True in node.args[2:] else means.flatten(2)
    if name in BATCH_NORM:
        scale = batch_norm_scale(head.layer(node), x)
        return None if scale is None else difference * scale
    if name in CONVOLUTION:
        conv = head.layer(node)
        if conv.groups == conv.in_channels == conv.out_channels and conv.padding_mode == "zeros":
            return conv._conv_forward(difference, conv.weight, None)
    return None


def _add(node: fx.Node, sources: list[Tensor], value: Tensor) -> Tensor | None:
    if node.kwargs or any(source.shape != value.shape for source in sources):
        return None
    times = max(node.args.count(source) for source in node.all_input_nodes)
    if times > 1:  # x + x names one node twice
        return sources[0] * times
    total = sources[0]
    for source in sources[1:]:
        total = total + source
    return total


@dataclass(frozen=True)
class LinearChain:
    """The nodes behind the channelwise operations: a linear layer, activations and linear layers, the last of them the
    class layer, unless the module of another output follows.

    before: the differences that reach the first layer, (G, K, features).
    """

    head: HeadGraph
    nodes: list[fx.Node]
    before: Tensor

    def scores(self, values: Values, targets: Tensor, live: Tensor, memory: int) -> Tensor:
        """S_k - S of every channel: (G, K). live: (G, K), the channels to ablate. memory: bytes to stay within."""
        inner = [node for node in self.nodes[1:-1] if self.head.operation(node) is nn.Linear]
        widest = max(self.head.layer(node).out_features for node in (self.nodes[0], *inner))
        scores = torch.zeros_like(live, dtype=self.before.dtype)
        for images, channels in self._parts(live, memory // (2 * TENSORS_AT_ONCE * widest)):
            first = self._first_product(images, channels)
            difference = self._behind(values, images, first, live[images, channels])
            scores[images, channels] = self._of_class(values, images, difference, targets[images]).to(scores.dtype)
        return scores

    def _behind(self, values: Values, images: slice, first: Tensor, live: Tensor) -> Tensor:
        """From the first product's differences, (G, n, N), to those that reach the last node, in the same memory where
        they fit. A processor takes image by image, whose differences stay in its cache."""
        result, at_once = first, min(_blocks(first).images, len(first))
        for start in range(0, len(first), at_once):
            rows = slice(start, start + at_once)
            difference = first[rows]
            for node in self.nodes[1:-1]:
                x = values[node.all_input_nodes[0]][images][rows, None]
                difference = self._pass(node, x, difference, live[rows])
            if difference.shape == first.shape:
                return difference
            if start == 0 and (difference.shape[2:], difference.dtype) != (first.shape[2:], first.dtype):
                result = difference.new_empty(len(first), *difference.shape[1:])
            result[rows] = difference
        return result

    def _of_class(self, values: Values, images: slice, difference: Tensor, targets: Tensor) -> Tensor:
        """The last node's differences in the explained classes alone: (G, n, units) -> (G, n)."""
        last = self.nodes[-1]
        layer = self.head.layer(last)
        if not is_output(self.head.operation(last)):
            return torch.bmm(difference, layer.weight[targets, :, None])[..., 0]
        logits = values[last.all_input_nodes[0]][images, None]
        return torch.stack([
            layer.difference(z, change)[:, target]
            for z, change, target in zip(logits, difference, targets.tolist(), strict=True)
        ])  # fmt: skip

    def _pass(self, node: fx.Node, x: Tensor, difference: Tensor, live: Tensor) -> Tensor:
        """One node's differences (G, n, units'). x: its input, (G, 1, units)."""
        name = self.head.operation(node)
        if name in IDENTITY:
            return difference
        if name in CLAMP:
            return clamp_difference(x, difference, *CLAMP[name], out=difference)
        if name is nn.Linear:
            return products(difference, live, self.head.layer(node).weight)
        return self.head.evaluated_difference(node, x, difference)

    def _first_product(self, images: slice, channels: slice) -> Tensor:
        """W_k d_k of the first layer: (G, n, N). All channels together cost what the layer itself costs."""
        difference = self.before[images, channels]
        weight = self.head.layer(self.nodes[0]).weight.unflatten(1, self.before.shape[1:])[:, channels]
        result = _empty(difference, len(weight))
        at_once = _blocks(difference).features
        for part, columns in zip(weight.split(at_once), result.split(at_once, 2), strict=True):
            columns.copy_(torch.bmm(difference.transpose(0, 1), part.permute(1, 2, 0)).transpose(0, 1))
        return result

    def _parts(self, live: Tensor, numbers: int) -> Iterator[tuple[slice, slice]]:
        """Images x channels, of so many numbers' bytes together."""
        batch, channels = live.shape
        rows = max(1, numbers // self.before.element_size())
        num_channels, num_images = min(rows, channels), max(1, rows // channels)
        for first in range(0, batch, num_images):
            for start in range(0, channels, num_channels):
                yield slice(first, first + num_images), slice(start, start + num_channels)


def linear_chain_of(head: HeadGraph, values: Values, channelwise: Differences) -> LinearChain | None:
    """The chain from the end of the channelwise operations to the scores; None where something else lies between."""
    operations = {nn.Linear, *CLAMP, *ELEMENTWISE, *IDENTITY}
    nodes: list[fx.Node] = []
    node = None if head.tail else head.class_layer
    if is_output(head.operation(head.logits)):
        nodes, node = [head.logits], first_input(head.logits)
    while node is not None and node not in channelwise:
        if head.operation(node) not in operations or len(node.all_input_nodes) != 1:
            return None
        nodes.insert(0, node)
        node = first_input(node)
    if node is None or len(nodes) < 2 or head.operation(nodes[0]) is not nn.Linear or not is_flat(values[node]):
        return None
    return LinearChain(head, nodes, channelwise[node])


def products(rows: Tensor, live: Tensor, weight: Tensor) -> Tensor:
    """A linear layer's differences: (G, n, units), zero where live, (G, n), is False -> (G, n, N).

    weight: (N, units).
    """
    unmoved = (rows.amax(1) <= 0) & (rows.amin(1) >= 0)  # a NaN is neither
    masks = torch.cat([live, ~unmoved], 1).cpu()  # of all images at once: a GPU is waited for
    result = _empty(rows, len(weight))
    for image, mask, out in zip(rows, masks, result, strict=True):
        _product(image, mask[: live.shape[1]], mask[live.shape[1] :], weight, out)
    return result


def _empty(rows: Tensor, features: int) -> Tensor:
    """For a product of the rows with a weight, in the precision that autocast makes it in."""
    kind = rows.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else rows.dtype
    return rows.new_empty(*rows.shape[:-1], features, dtype=dtype)


def _product(rows: Tensor, live: Tensor, moved: Tensor, weight: Tensor, out: Tensor) -> None:
    """One image's product, without its dead channels' rows where leaving them out pays: (n, units) -> out, (n, N).

    live, moved: on the CPU.
    """
    alive = live.nonzero()[:, 0].to(rows.device, non_blocking=True)
    if len(alive) > WORTH_GATHERING * len(live):
        sparse_product(rows, weight, moved, out)
    else:
        out.zero_().index_copy_(0, alive, sparse_product(rows[alive], weight, moved))


def sparse_product(rows: Tensor, weight: Tensor, moved: Tensor, out: Tensor | None = None) -> Tensor:
    """rows @ weight.T without the units that are zero in every row.

    rows: (n, units). weight: (N, units). moved: (units,), which aren't zero in all; on the CPU a GPU isn't waited for.
    """
    units = moved.nonzero()[:, 0].to(rows.device, non_blocking=True)
    result = _empty(rows, len(weight)) if out is None else out
    if len(units) > WORTH_GATHERING * len(moved):
        return _multiply(rows, weight, result)
    rows, at_once = rows.index_select(1, units), _blocks(rows).columns
    for part, columns in zip(weight.split(at_once), result.split(at_once, 1), strict=True):
        _multiply(rows, part.index_select(1, units), columns)
    return result


def _blocks(tensor: Tensor) -> Blocks:
    return OF_PROCESSOR if tensor.device.type == "cpu" else OF_GPU


def _multiply(rows: Tensor, weight: Tensor, out: Tensor) -> Tensor:
    """rows @ weight.T in `out`, where autocast can't write by itself."""
    if rows.dtype == weight.dtype == out.dtype:
        return torch.mm(rows, weight.t(), out=out)
    return out.copy_(rows @ weight.t())
