"""Compute the first stages of the head for all ablations of all images at once.

While channels don't mix, ablating channel k changes only channel k. So the K differences, one per
ablation, fit into a tensor of the size of the activations themselves. difference[b, k] is the
change of channel k of image b when channel k is ablated: (G, K, *space), or (G, K, features) once
the maps are flattened to (G, K * features).

Heads that flatten and continue with linear layers and activations, such as AlexNet's and VGG's,
need no rows. Their first layer takes all K ablations of all images for the layer's own work, dz =
W_k d_k. The rest is computed image by image, because each image has hidden units of its own that no
ablation moves.
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
# Below this share of a layer's units, or of the channels, gathering them is cheaper than a full
# product.
WORTH_GATHERING = 0.9
# Tensors of a layer's width that are alive at once: differences before and after, and two for work.
TENSORS_AT_ONCE = 4


class Blocks(NamedTuple):
    """The sizes of the pieces that are computed together."""

    images: int  # images after the first product, whose differences fit into a processor's cache
    # outputs of the first product: rows of the weight whose pages a processor remembers
    features: int
    columns: int  # outputs of the later products, which are in the cache when they are multiplied


OF_PROCESSOR = Blocks(images=1, features=1024, columns=256)
# a GPU computes everything at once
OF_GPU = Blocks(images=sys.maxsize, features=sys.maxsize, columns=sys.maxsize)


def is_flat(value: Tensor) -> bool:
    """Return True if a value is (G, K * features). Its differences are (G, K, features).

    Each channel then has its own block of features.
    """
    return value.ndim == 2


def channelwise_differences(head: HeadGraph, values: Values) -> Differences:
    """Compute the differences of all nodes that operations on separate channels reach from the
    activations.
    """
    start = values[head.activations]
    differences: Differences = {head.activations: -start}

    def is_constant(node: fx.Node) -> bool:  # side values, attributes and sizes
        return not (node.op.startswith("call") and isinstance(values[node], Tensor))

    for node in head.nodes:
        sources = [source for source in node.all_input_nodes if source in differences]
        if (
            not sources
            or not isinstance(values.get(node), Tensor)
            or node in head.tail
            or node is head.class_layer
        ):
            continue
        if all(source in differences or is_constant(source) for source in node.all_input_nodes):
            difference = _pass(head, node, [differences[source] for source in sources], values)
            if difference is not None:
                differences[node] = difference
    return differences


def _pass(head: HeadGraph, node: fx.Node, sources: list[Tensor], values: Values) -> Tensor | None:
    """Compute the difference of one node from those of its inputs; None if the node mixes
    channels.
    """
    name = head.operation(node)
    value = values[node]
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
    """Compute the difference of an operation on maps (G, K, *space); None if it mixes channels."""
    name = head.operation(node)
    if name in MAX_POOL:
        return head.evaluated_difference(node, x, difference)
    if name in AVERAGE_POOL:
        pooled: Tensor = head.apply(node, lambda source: difference)
        return pooled
    if name in MEAN and spatial_mean(node, x):
        means = difference.mean(axes(x), keepdim=True)
        return means if node.kwargs.get("keepdim") or True in node.args[2:] else means.flatten(2)
    if name in BATCH_NORM:
        scale = batch_norm_scale(head.layer(node), x)
        return None if scale is None else difference * scale
    if name in CONVOLUTION:
        conv = head.layer(node)
        if conv.groups == conv.in_channels == conv.out_channels and conv.padding_mode == "zeros":
            convolved: Tensor = conv._conv_forward(difference, conv.weight, None)
            return convolved
    return None


def _add(node: fx.Node, sources: list[Tensor], value: Tensor) -> Tensor | None:
    """Add the differences of a sum's inputs; None if one has another shape than the sum."""
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
    """The nodes after the operations on separate channels: a linear layer, then activations and
    linear layers.

    The last node is the class layer, unless the module of another output follows it.
    """

    head: HeadGraph
    nodes: list[fx.Node]
    before: Tensor  # the differences that reach the first layer, (G, K, features)

    def scores(self, values: Values, targets: Tensor, live: Tensor, memory: int) -> Tensor:
        """Compute S_k - S of every channel: (G, K).

        Args:
            values: The values of the head's nodes.
            targets: The explained classes, (G,).
            live: The channels to ablate, (G, K) bool.
            memory: The bytes that the ablations may take.
        """
        inner = [node for node in self.nodes[1:-1] if self.head.operation(node) is nn.Linear]
        widest = max(self.head.layer(node).out_features for node in (self.nodes[0], *inner))
        scores = torch.zeros_like(live, dtype=self.before.dtype)
        for images, channels in self._parts(live, memory // (2 * TENSORS_AT_ONCE * widest)):
            first = self._first_product(images, channels)
            last = self._inner_layers(values, images, first, live[images, channels])
            score_differences = self._last_layer(values, images, last, targets[images])
            scores[images, channels] = score_differences.to(scores.dtype)
        return scores

    def _inner_layers(self, values: Values, images: slice, first: Tensor, live: Tensor) -> Tensor:
        """Compute the differences that reach the last node from those of the first product, (G, n,
        N).

        They take the same memory if they fit there. A processor computes image by image, so that an
        image's differences stay in its cache.
        """
        result = first
        at_once = min(_blocks(first).images, len(first))
        for start in range(0, len(first), at_once):
            rows = slice(start, start + at_once)
            difference = first[rows]
            for node in self.nodes[1:-1]:
                x = values[node.all_input_nodes[0]][images][rows, None]
                difference = self._pass(node, x, difference, live[rows])
            if difference.shape == first.shape:
                return difference
            fits = difference.shape[2:] == first.shape[2:] and difference.dtype == first.dtype
            if start == 0 and not fits:
                result = difference.new_empty(len(first), *difference.shape[1:])
            result[rows] = difference
        return result

    def _last_layer(
        self, values: Values, images: slice, difference: Tensor, targets: Tensor
    ) -> Tensor:
        """Compute the last node's differences for the explained classes only: (G, n, units) -> (G,
        n).

        Scores of other classes aren't explained, so their products aren't computed.
        """
        last = self.nodes[-1]
        layer = self.head.layer(last)
        if not is_output(self.head.operation(last)):
            return torch.bmm(difference, layer.weight[targets, :, None])[..., 0]
        logits = values[last.all_input_nodes[0]][images, None]
        score_differences = []
        for z, change, target in zip(logits, difference, targets.tolist(), strict=True):
            score_differences.append(layer.difference(z, change)[:, target])
        return torch.stack(score_differences)

    def _pass(self, node: fx.Node, x: Tensor, difference: Tensor, live: Tensor) -> Tensor:
        """Compute one node's differences (G, n, units') from those of its input x, (G, 1,
        units).
        """
        name = self.head.operation(node)
        if name in IDENTITY:
            return difference
        if name in CLAMP:
            return clamp_difference(x, difference, *CLAMP[name], out=difference)
        if name is nn.Linear:
            return products(difference, live, self.head.layer(node).weight)
        return self.head.evaluated_difference(node, x, difference)

    def _first_product(self, images: slice, channels: slice) -> Tensor:
        """Compute W_k d_k of the first layer: (G, n, N). All channels together cost as much as the
        layer itself.
        """
        difference = self.before[images, channels]
        weight = self.head.layer(self.nodes[0]).weight.unflatten(1, self.before.shape[1:])[
            :, channels
        ]
        result = _empty(difference, len(weight))
        at_once = _blocks(difference).features
        for part, columns in zip(weight.split(at_once), result.split(at_once, 2), strict=True):
            columns.copy_(
                torch.bmm(difference.transpose(0, 1), part.permute(1, 2, 0)).transpose(0, 1)
            )
        return result

    def _parts(self, live: Tensor, numbers: int) -> Iterator[tuple[slice, slice]]:
        """Yield slices of images and channels that together have about as many bytes as `numbers`
        numbers.

        So the products of any head fit into the memory that the user allows.
        """
        batch, channels = live.shape
        rows = max(1, numbers // self.before.element_size())
        num_channels = min(rows, channels)
        num_images = max(1, rows // channels)
        for image in range(0, batch, num_images):
            for channel in range(0, channels, num_channels):
                yield slice(image, image + num_images), slice(channel, channel + num_channels)


def linear_chain_of(
    head: HeadGraph, values: Values, channelwise: Differences
) -> LinearChain | None:
    """Return the chain from the end of the operations on separate channels to the scores; None if
    it has other operations.

    Such a chain needs no rows, and computes all ablations of an image by a few products.
    """
    operations = {nn.Linear, *CLAMP, *ELEMENTWISE, *IDENTITY}
    nodes: list[fx.Node] = []
    node = None if head.tail else head.class_layer
    if is_output(head.operation(head.logits)):
        nodes = [head.logits]
        node = first_input(head.logits)
    while node is not None and node not in channelwise:
        if head.operation(node) not in operations or len(node.all_input_nodes) != 1:
            return None
        nodes.insert(0, node)
        node = first_input(node)
    if (
        node is None
        or len(nodes) < 2
        or head.operation(nodes[0]) is not nn.Linear
        or not is_flat(values[node])
    ):
        return None
    return LinearChain(head, nodes, channelwise[node])


def products(rows: Tensor, live: Tensor, weight: Tensor) -> Tensor:
    """Compute a linear layer's differences: rows (G, n, units) -> (G, n, N).

    Rows whose `live`, (G, n), is False are zero. `weight` is (N, units).
    """
    unmoved = (rows.amax(1) <= 0) & (rows.amin(1) >= 0)  # a NaN is neither
    masks = torch.cat(
        [live, ~unmoved], 1
    ).cpu()  # for all images in one copy, since it waits for a GPU
    result = _empty(rows, len(weight))
    for image, mask, out in zip(rows, masks, result, strict=True):
        _product(image, mask[: live.shape[1]], mask[live.shape[1] :], weight, out)
    return result


def _empty(rows: Tensor, features: int) -> Tensor:
    """Allocate a product of the rows with a weight, in the precision in which autocast computes
    it.
    """
    kind = rows.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else rows.dtype
    return rows.new_empty(*rows.shape[:-1], features, dtype=dtype)


def _product(rows: Tensor, live: Tensor, moved: Tensor, weight: Tensor, out: Tensor) -> None:
    """Compute one image's product: (n, units) -> out, (n, N). Dead channels' rows are left out if
    that pays.

    `live` and `moved` are on the CPU.
    """
    alive = live.nonzero()[:, 0].to(rows.device, non_blocking=True)
    if len(alive) > WORTH_GATHERING * len(live):
        sparse_product(rows, weight, moved, out)
    else:
        out.zero_().index_copy_(0, alive, sparse_product(rows[alive], weight, moved))


def sparse_product(
    rows: Tensor, weight: Tensor, moved: Tensor, out: Tensor | None = None
) -> Tensor:
    """Compute rows @ weight.T without the units that are zero in every row.

    Args:
        rows: The rows, (n, units).
        weight: The weight, (N, units).
        moved: True for the units that aren't zero in every row, (units,). On the CPU, nothing waits
            for a GPU.
        out: The memory of the result, (n, N).
    """
    units = moved.nonzero()[:, 0].to(rows.device, non_blocking=True)
    result = _empty(rows, len(weight)) if out is None else out
    if len(units) > WORTH_GATHERING * len(moved):
        return _multiply(rows, weight, result)
    moved_rows = rows.index_select(1, units)
    at_once = _blocks(rows).columns
    for part, columns in zip(weight.split(at_once), result.split(at_once, 1), strict=True):
        _multiply(moved_rows, part.index_select(1, units), columns)
    return result


def _blocks(tensor: Tensor) -> Blocks:
    return OF_PROCESSOR if tensor.device.type == "cpu" else OF_GPU


def _multiply(rows: Tensor, weight: Tensor, out: Tensor) -> Tensor:
    """Compute rows @ weight.T in `out`, also under autocast, which can't write there itself."""
    if rows.dtype == weight.dtype == out.dtype:
        return torch.mm(rows, weight.t(), out=out)
    return out.copy_(rows @ weight.t())
