"""Heads that flatten and go on through linear layers and activations, as AlexNet's and VGG's: all images at once.

The first layer takes all K ablations of all images for its own work, dz = W_k d_k. Activations take them in one go; the
products behind are made image by image, because each image has hidden units of its own that no ablation moves.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn

from axiom_bench.cutting.ablation.channelwise import Channelwise, Differences
from axiom_bench.cutting.ablation.graph import (
    CLAMP,
    ELEMENTWISE,
    IDENTITY,
    HeadGraph,
    Values,
    clamp_difference,
    first_input,
    is_output,
)

# Below this share of a layer's units, or of the channels, gathering them is cheaper than a full product.
WORTH_GATHERING = 0.9
# Tensors of a layer's width that are alive at once: differences before and after, and two for work.
TENSORS_AT_ONCE = 4


@dataclass(frozen=True)
class LinearChain:
    """The nodes behind the channelwise operations: a linear layer, activations and linear layers, the last of them the
    class layer, unless the module of another output follows.

    before: the differences that reach the first layer, (G, K, features).
    """

    head: HeadGraph
    nodes: list[fx.Node]
    before: Channelwise

    def scores(self, values: Values, targets: Tensor, live: Tensor, memory: int) -> Tensor:
        """S_k - S of every channel: (G, K). live: (G, K), the channels to ablate. memory: bytes to stay within."""
        weights = {node: transposed(self.head.layer(node), memory) for node in self._inner_linear()}
        scores = torch.zeros_like(live, dtype=self.before.difference.dtype)
        for images, channels in self._parts(live, memory):
            difference = self._first_product(images, channels)
            for node in self.nodes[1:-1]:
                x = values[node.all_input_nodes[0]][images, None]
                difference = self._pass(node, x, difference, live[images, channels], weights)
            scores[images, channels] = self._of_class(values, images, difference, targets[images]).to(scores.dtype)
        return scores

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

    def _pass(
        self, node: fx.Node, x: Tensor, difference: Tensor, live: Tensor, weights: dict[fx.Node, Tensor]
    ) -> Tensor:
        """One node's differences (G, n, units'). x: its input, (G, 1, units)."""
        name = self.head.operation(node)
        if name in IDENTITY:
            return difference
        if name in CLAMP:
            return clamp_difference(x, difference, *CLAMP[name])
        if name is nn.Linear:
            return products(difference, live, weights[node])
        moved = x + difference
        return self.head.apply(node, lambda source: moved) - self.head.apply(node, lambda source: x)

    def _first_product(self, images: slice, channels: slice) -> Tensor:
        """W_k d_k of the first layer: (G, n, N). All channels together cost what the layer itself costs."""
        difference = self.before.difference[images, channels]
        weight = self.head.layer(self.nodes[0]).weight.unflatten(1, self.before.difference.shape[1:])
        return torch.bmm(difference.transpose(0, 1), weight[:, channels].permute(1, 2, 0)).transpose(0, 1)

    def _parts(self, live: Tensor, memory: int) -> Iterator[tuple[slice, slice]]:
        """Images x channels whose differences fit in half of the memory."""
        batch, channels = live.shape
        widest = max(self.head.layer(node).out_features for node in (self.nodes[0], *self._inner_linear()))
        rows = max(1, memory // (2 * TENSORS_AT_ONCE * widest * self.before.difference.element_size()))
        num_channels, num_images = min(rows, channels), max(1, rows // channels)
        for first in range(0, batch, num_images):
            for start in range(0, channels, num_channels):
                yield slice(first, first + num_images), slice(start, start + num_channels)

    def _inner_linear(self) -> list[fx.Node]:
        return [node for node in self.nodes[1:-1] if self.head.operation(node) is nn.Linear]


def linear_chain_of(head: HeadGraph, channelwise: Differences) -> LinearChain | None:
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
    if node is None or len(nodes) < 2 or head.operation(nodes[0]) is not nn.Linear or not channelwise[node].flat:
        return None
    return LinearChain(head, nodes, channelwise[node])


def transposed(layer: nn.Linear, memory: int) -> Tensor:
    """A linear layer's weight as (units in, units out): a copy, whose rows are cheap to gather, if memory allows it."""
    view = layer.weight.t()
    return view.contiguous() if 8 * layer.weight.nbytes <= memory else view


def products(rows: Tensor, live: Tensor, weight: Tensor) -> Tensor:
    """rows[g] @ weight for each image. rows: (G, n, units), zero where live, (G, n), is False -> (G, n, N)."""
    moved = rows.abs().amax(1) != 0
    masks = torch.cat([live, moved], 1).cpu()  # of all images at once: a GPU is waited for
    return torch.stack([
        _product(image, mask[: live.shape[1]], mask[live.shape[1] :], weight)
        for image, mask in zip(rows, masks, strict=True)
    ])  # fmt: skip


def _product(rows: Tensor, live: Tensor, moved: Tensor, weight: Tensor) -> Tensor:
    """One image's product, without its dead channels' rows where leaving them out pays: (n, units) -> (n, N).

    live, moved: on the CPU.
    """
    alive = live.nonzero()[:, 0].to(rows.device, non_blocking=True)
    if len(alive) > WORTH_GATHERING * len(live):
        return sparse_product(rows, weight, moved)
    product = sparse_product(rows[alive], weight, moved)
    return product.new_zeros(len(rows), weight.shape[1]).index_copy(0, alive, product)


def sparse_product(rows: Tensor, weight: Tensor, moved: Tensor) -> Tensor:
    """rows @ weight without the units that are zero in every row.

    rows: (n, units). weight: (units, N), contiguous where gathering pays. moved: (units,), which aren't zero in all;
    on the CPU a GPU isn't waited for.
    """
    units = moved.nonzero()[:, 0].to(rows.device, non_blocking=True)
    if not weight.is_contiguous() or len(units) > WORTH_GATHERING * len(moved):
        return rows @ weight
    return rows.index_select(1, units) @ weight.index_select(0, units)
