"""Trunk and head around a layer whose output isn't maps: the same parts with a reshape between them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, fx

from axiom_bench.cutting.parts import Parts
from axiom_bench.cutting.tokens import ChannelsLast, Reshape
from axiom_bench.errors import BenchError


@dataclass(frozen=True)
class ReshapedParts:
    """trunk: images -> (maps, (rest, *sides)). head: (maps, (rest, *sides)) -> logits.

    rest is the part of the layer's output that is in no map, such as the class token: it crosses the cut as a side.
    """

    parts: Parts
    reshape: Reshape

    def trunk(self, images: Tensor) -> tuple[Tensor, tuple[Any, ...]]:
        """Maps (B, K, H, W) and the values that travel beside them."""
        output, sides = self.parts.trunk(images)
        maps, rest = self.reshape.to_maps(output, (images.shape[-2], images.shape[-1]))
        return maps, (rest, *sides)

    def head(self, activations: Tensor, sides: tuple[Any, ...]) -> Tensor:
        """Logits (B, C)."""
        rest, *others = sides
        return self.parts.head(self.reshape.from_maps(activations, rest), tuple(others))

    @cached_property
    def head_graph(self) -> fx.GraphModule | None:
        """The head's graph with `from_maps` as its first operation."""
        if self.parts.head_graph is None:
            return None
        graph = fx.Graph()
        inner = list(self.parts.head_graph.graph.nodes)
        activations, *sides = (node for node in inner if node.op == "placeholder")
        maps, rest = graph.placeholder("activations"), graph.placeholder("side_rest")
        copies = {side: graph.node_copy(side) for side in sides}
        copies[activations] = graph.call_function(self.reshape.from_maps, (maps, rest))
        for node in inner:
            if self._undoes_from_maps(node, activations):
                copies[node] = maps
            elif node.op != "placeholder":
                copies[node] = graph.node_copy(node, copies.__getitem__)
        if not copies[activations].users:
            graph.erase_node(copies[activations])
        return fx.GraphModule(self.parts.head_graph, graph, "Head")

    def _undoes_from_maps(self, node: fx.Node, activations: fx.Node) -> bool:
        """Whether the head itself makes maps of a grid, as Swin's does: then both steps are left out."""
        is_permutation = node.target is torch.permute and node.args == (activations, [0, 3, 1, 2])
        return is_permutation and isinstance(self.reshape, ChannelsLast)


def check_inverse(reshape: Reshape, layer: str, output: Tensor, image_size: tuple[int, int]) -> None:
    """Raises BenchError unless `from_maps` undoes `to_maps` on the output of the layer, bit by bit, for maps."""
    maps, rest = reshape.to_maps(output, image_size)
    if not isinstance(maps, Tensor) or maps.ndim != 4 or len(maps) != len(output):
        raise BenchError(f"The reshape of the layer {layer!r} must give maps (B, K, H, W) from {tuple(output.shape)}.")
    back = reshape.from_maps(maps, rest)
    if back.shape != output.shape or not torch.allclose(back, output, rtol=0, atol=0, equal_nan=True):
        raise BenchError(f"The reshape of the layer {layer!r} isn't invertible: from_maps(*to_maps(x, size)) isn't x.")
