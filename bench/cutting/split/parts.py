"""The parts of a split model, trunk and head, by torch.fx or by hooks, and the sides: what crosses the cut beside them.

A side value, as a skip connection's, belongs to its image.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from axiom_bench.cutting.outputs.output import ScoredNetwork
from axiom_bench.errors import BenchError

Hook = Callable[[nn.Module, Any, Any], Any]


class Parts(Protocol):
    """The trunk and the head of a split model."""

    @property
    def head_graph(self) -> fx.GraphModule | None:
        """The head as a graph (activations, *sides) -> logits; None where only whole passes are safe."""

    def trunk(self, images: Tensor) -> tuple[Tensor, tuple[Any, ...]]:
        """Images (B, 3, H', W') -> activations and the values that cross the cut beside them."""

    def head(self, activations: Tensor, sides: tuple[Any, ...]) -> Tensor:
        """Activations and side values -> logits (B, C)."""


class SideKind(Enum):
    """How a side value depends on the batch."""

    PER_IMAGE = "per image"  # a tensor with a batch as its first dimension
    SHARED = "shared"  # the same whatever the batch
    BATCH_SIZE = "batch size"  # a number that counts images


def kinds_of(sides: Any, doubled_sides: Any) -> list[SideKind] | None:
    """From the sides of an image and of a batch that holds it twice; None where a value follows no pattern."""
    kinds = []
    for value, doubled in zip(pytree.tree_leaves(sides), pytree.tree_leaves(doubled_sides), strict=True):
        if isinstance(value, Tensor):
            if value.shape == doubled.shape:
                kinds.append(SideKind.SHARED)
            elif value.shape[1:] == doubled.shape[1:] and doubled.shape[0] == 2 * value.shape[0]:
                kinds.append(SideKind.PER_IMAGE)
            else:
                return None
        elif value == doubled:
            kinds.append(SideKind.SHARED)
        elif isinstance(value, int) and doubled == 2 * value:
            kinds.append(SideKind.BATCH_SIZE)
        else:
            return None
    return kinds


def select(sides: Any, kinds: list[SideKind], rows: Tensor, batch: int) -> Any:
    """The sides of a batch made of the given rows. rows: (R,) image indices into a batch of `batch` images."""
    values, structure = pytree.tree_flatten(sides)
    chosen = [_select_value(value, kind, rows, batch) for value, kind in zip(values, kinds, strict=True)]
    return pytree.tree_unflatten(chosen, structure)


def _select_value(value: Any, kind: SideKind, rows: Tensor, batch: int) -> Any:
    if kind is SideKind.PER_IMAGE:
        per_image = value.unflatten(0, (batch, -1))
        return per_image.index_select(0, rows.to(value.device)).flatten(0, 1)
    if kind is SideKind.BATCH_SIZE:
        return value // batch * len(rows)
    return value


def cast(sides: Any, dtype: torch.dtype) -> Any:
    """The same sides with their floating tensors in another precision."""
    return pytree.tree_map(
        lambda value: value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() else value, sides
    )


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
    """Parts by torch.fx. trunk: images -> (activations, sides). head: (activations, *sides) -> logits.

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


class HookedParts:
    """Parts of a model that torch.fx can't follow: forward hooks on a parameter-sharing copy.

    Such a model may branch on its data, so each image runs in a batch of its own. The head is the whole model with the
    layer's output replaced, so it costs a whole forward pass an image. The sides are the images and, per image, which
    call of the layer is cut: the last one.
    """

    head_graph: None = None

    def __init__(self, network: ScoredNetwork, layer: str) -> None:
        self.network = network
        self.layer = layer

    def trunk(self, images: Tensor) -> tuple[Tensor, tuple[Any, ...]]:
        """Activations (B, K, H, W) and the sides. Raises BenchError where the model doesn't call the layer."""
        activations, calls = [], []
        for image in images.split(1):
            outputs: list[Any] = []
            self._run(image, lambda module, inputs, output, outputs=outputs: outputs.append(output))  # type: ignore[misc]
            if not outputs:
                raise BenchError(
                    f"The model never calls the layer {self.layer!r}; choose one that its forward pass uses."
                )
            activations.append(outputs[-1])
            calls.append(len(outputs))
        if not all(isinstance(part, Tensor) for part in activations):
            raise BenchError(f"The layer {self.layer!r} returns no tensor; choose one that returns (B, K, H, W) maps.")
        return torch.cat(activations), (images, torch.tensor(calls))

    def head(self, activations: Tensor, sides: tuple[Any, ...]) -> Tensor:
        """Logits (B, C) of the model with the layer's output replaced by the activations."""
        images, calls = sides
        rows = zip(activations.split(1), images.split(1), calls.tolist(), strict=True)
        return torch.cat([self._head_of_image(*row) for row in rows])

    def _head_of_image(self, activations: Tensor, image: Tensor, call: int) -> Tensor:
        count = 0

        def replace(module: nn.Module, inputs: Any, output: Any) -> Any:
            nonlocal count
            count += 1
            return activations.clone() if count == call else output

        return self._run(image, replace)

    def _run(self, image: Tensor, hook: Hook) -> Any:
        handle = self.network.model.get_submodule(self.layer).register_forward_hook(hook)
        try:
            return self.network(image.clone())
        finally:
            handle.remove()
