"""Splits a model at a layer into two graphs, trunk and head, with torch.fx."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx, nn

from axiom_bench.cutting.scores import ScoredNetwork


class _Tracer(fx.Tracer):
    """Remembers which node each call of the target layer returned."""

    def __init__(self, layer: nn.Module, opaque: nn.Module | None) -> None:
        super().__init__()
        self.layer, self.opaque = layer, opaque
        self.outputs: list[Any] = []

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Max pooling, torch's and MaxPool2dByViews, is one node of the graph; so are opaque scores."""
        return m is self.opaque or isinstance(m, nn.MaxPool2d) or super().is_leaf_module(m, module_qualified_name)

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        output = super().call_module(m, forward, args, kwargs)
        if m is self.layer:
            self.outputs.append(output)
        return output


@dataclass(frozen=True)
class GraphParts:
    """trunk: images -> (activations, sides). head: (activations, *sides) -> logits.

    sides are the values of edges that cross the cut beside the layer's output, as a skip connection does.
    """

    trunk_graph: fx.GraphModule
    head_graph: fx.GraphModule

    def trunk(self, images: Tensor) -> tuple[Tensor, tuple[Any, ...]]:
        """Activations (B, K, H, W) and the values that travel beside them. The images are never written to."""
        return self.trunk_graph(images.clone())

    def head(self, activations: Tensor, sides: tuple[Any, ...]) -> Tensor:
        """Logits (B, C). Works on copies, so that an in-place first operation overwrites nothing."""
        copies = tuple(side.clone() if isinstance(side, Tensor) else side for side in sides)
        return self.head_graph(activations.clone(), *copies)


class CannotSplit(Exception):
    """The graph can't be traced or cut; HookedParts is the alternative."""


def split(network: ScoredNetwork, layer: str, opaque_scores: bool = False) -> GraphParts:
    """Cuts at the last call of `layer`. opaque_scores: the network's scores are one operation of the head.

    Raises CannotSplit where torch.fx can't follow the network.
    """
    tracer = _Tracer(network.model.get_submodule(layer), network.scores if opaque_scores else None)
    try:
        graph = tracer.trace(network)
    except Exception as error:  # tracing runs the user's code on proxies: anything may come out of it
        raise CannotSplit(f"torch.fx can't trace {type(network.model).__name__}: {error}") from error
    if not tracer.outputs or not isinstance(tracer.outputs[-1], fx.Proxy):
        raise CannotSplit(f"{layer} isn't called, or returns no tensor")
    cut = tracer.outputs[-1].node
    after = _descendants(cut)
    output = next(node for node in graph.nodes if node.op == "output")
    if output not in after:
        raise CannotSplit(f"the scores don't depend on {layer}")
    sides = _sides(graph, cut, after)
    return GraphParts(
        fx.GraphModule(network, _trunk(graph, cut, after, sides), "Trunk"),
        fx.GraphModule(network, _head(graph, cut, after, sides), "Head"),
    )


def _descendants(cut: fx.Node) -> set[fx.Node]:
    reached: set[fx.Node] = set()
    queue = list(cut.users)
    while queue:
        node = queue.pop()
        if node not in reached:
            reached.add(node)
            queue.extend(node.users)
    return reached


def _sides(graph: fx.Graph, cut: fx.Node, after: set[fx.Node]) -> list[fx.Node]:
    return [
        node
        for node in graph.nodes
        if node is not cut and node not in after and node.op != "get_attr" and any(user in after for user in node.users)
    ]


def _trunk(graph: fx.Graph, cut: fx.Node, after: set[fx.Node], sides: list[fx.Node]) -> fx.Graph:
    trunk = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    for node in graph.nodes:
        if node not in after:
            copies[node] = trunk.node_copy(node, copies.__getitem__)
    trunk.output((copies[cut], tuple(copies[side] for side in sides)))
    return trunk


def _head(graph: fx.Graph, cut: fx.Node, after: set[fx.Node], sides: list[fx.Node]) -> fx.Graph:
    head = fx.Graph()
    copies = {cut: head.placeholder("activations")}
    for side in sides:
        copies[side] = head.placeholder(f"side_{side.name}")
    for node in graph.nodes:
        if node in after or (node.op == "get_attr" and any(user in after for user in node.users)):
            copies[node] = head.node_copy(node, copies.__getitem__)
    return head
