"""The head as a graph that can be evaluated node by node, without side effects."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, fx, nn

from axiom_bench.cutting.ablation.one_token import for_one_token
from axiom_bench.cutting.ablation.operations import (
    AVERAGE_POOL,
    CLAMP,
    ELEMENTWISE,
    IDENTITY,
    MEAN,
    RESHAPE,
    operation,
    spatial_mean,
)
from axiom_bench.cutting.rounding import alike
from axiom_bench.cutting.sides import SideKind, select
from axiom_bench.cutting.wide_linear import apply_linear

Values = dict[fx.Node, Any]


@dataclass(frozen=True)
class HeadGraph:
    """module: the head. scorer: the layer whose rows are the classes, if only one of them is needed; tail: the nodes
    from there to the logits, which keep classes apart. bytes_per_image: of all values together; widest: of the widest.
    """

    module: fx.GraphModule
    scorer: fx.Node | None
    tail: tuple[fx.Node, ...]
    bytes_per_image: int
    widest: int

    @cached_property
    def nodes(self) -> list[fx.Node]:
        """Every node in order, the output node too."""
        return list(self.module.graph.nodes)

    @property
    def activations(self) -> fx.Node:
        """The placeholder of the layer's activations."""
        return self.nodes[0]

    @cached_property
    def last_uses(self) -> dict[fx.Node, list[fx.Node]]:
        """For each node, the values that nothing needs after it."""
        freed: dict[fx.Node, list[fx.Node]] = {}
        order = {node: place for place, node in enumerate(self.nodes)}
        for node in self.nodes:
            if node.users:
                freed.setdefault(max(node.users, key=order.__getitem__), []).append(node)
        return freed

    @cached_property
    def logits(self) -> fx.Node:
        """The node that the graph returns: the logits, or the outputs made of them."""
        return _returned(self.module.graph)

    def evaluate(self, activations: Tensor, sides: Any) -> Values:
        """The value of every node; nothing is overwritten, whatever the graph does in place."""
        given = iter((activations, *sides))
        values: Values = {}
        for node in self.nodes:
            if node.op == "placeholder":
                values[node] = next(given)
            elif node.op != "output":
                values[node] = self.apply(node, values.__getitem__)
        return values

    def apply(self, node: fx.Node, value_of: Callable[[fx.Node], Any]) -> Any:
        """One node's operation on any values."""
        if node.op == "get_attr":
            return _attribute(self.module, str(node.target))
        args: Any
        args, kwargs = fx.map_arg((node.args, node.kwargs), value_of)
        if self._in_place(node):
            args = (args[0].clone(), *args[1:])
        if self.operation(node) is nn.Linear:
            return apply_linear(self.layer(node), args[0])
        if node.op == "call_module":
            return self.layer(node)(*args, **kwargs)
        if node.op == "call_method":
            return getattr(args[0], str(node.target))(*args[1:], **kwargs)
        return node.target(*args, **kwargs)  # type: ignore[operator]

    def layer(self, node: fx.Node) -> Any:
        """The module that a call_module node calls."""
        return self._layers[node]

    def operation(self, node: fx.Node) -> Any:
        """The name of a node's operation in the tables of `operations`."""
        return self._operations[node]

    @cached_property
    def _layers(self) -> dict[fx.Node, Any]:
        return {node: self.module.get_submodule(str(node.target)) for node in self.nodes if node.op == "call_module"}

    @cached_property
    def _operations(self) -> dict[fx.Node, Any]:
        return {node: operation(node, self.module) for node in self.nodes}

    def _in_place(self, node: fx.Node) -> bool:
        if node.op == "call_module":
            return bool(getattr(self.layer(node), "inplace", False))
        if node.op == "call_method":
            return str(node.target).endswith("_") and not str(node.target).endswith("__")
        name = getattr(node.target, "__name__", "")
        return bool(node.kwargs.get("inplace")) or name in {"iadd", "imul", "isub", "itruediv"} or name.endswith("_")


def head_graph(module: fx.GraphModule, kinds: list[SideKind], activations: Tensor, sides: Any) -> HeadGraph | None:
    """Looks at the head once, with one image; None where a value doesn't keep its images in its first dimension.

    activations: (1, K, H, W); sides: of that image.
    """
    bare = HeadGraph(module, None, (), 0, 0)
    rows = [torch.zeros(count, dtype=torch.long, device=activations.device) for count in (2, 3)]
    given = [(activations[index], select(sides, kinds, index, 1)) for index in rows]
    expected = module(activations.clone(), *(side.clone() if isinstance(side, Tensor) else side for side in sides))
    bare = HeadGraph(for_one_token(bare, bare.evaluate(*given[0])), None, (), 0, 0)
    two, three = (bare.evaluate(*some) for some in given)
    floats = [node for node, value in two.items() if _floating(value) and node.op.startswith("call")]
    if any(two[node].shape[0] != 2 or three[node].shape != (3, *two[node].shape[1:]) for node in floats):
        return None
    if not alike(two[bare.logits][:1], expected):
        return None
    sizes = [two[node].numel() * two[node].element_size() // 2 for node in (bare.activations, *floats)]
    scorer, tail = _scorer(bare, two)
    return HeadGraph(bare.module, scorer, tail, sum(sizes), max(sizes))


def _scorer(head: HeadGraph, values: Values) -> tuple[fx.Node | None, tuple[fx.Node, ...]]:
    """Walks back from the logits through what keeps classes apart, to the layer whose rows are the classes."""
    tail: list[fx.Node] = []
    node = head.logits
    while node.op != "placeholder":
        name = head.operation(node)
        if (name is nn.Linear and values[node].ndim == 2) or (name is nn.Conv2d and head.layer(node).groups == 1):
            return node, tuple(reversed(tail))
        source = first_input(node)
        if source is None or not _keeps_classes_apart(head, node, source, values):
            break
        tail.append(node)
        node = source
    return None, ()


def _keeps_classes_apart(head: HeadGraph, node: fx.Node, source: fx.Node, values: Values) -> bool:
    name = head.operation(node)
    if len(source.users) > 1:
        return False
    if name in RESHAPE:
        return values[source].shape[2:].numel() == 1 and values[node].shape == values[source].shape[:2]
    return name in IDENTITY | AVERAGE_POOL | ELEMENTWISE | CLAMP.keys() or (name in MEAN and spatial_mean(node))


def first_input(node: fx.Node) -> fx.Node | None:
    """The node that is a node's first argument."""
    source = node.args[0] if node.args else None
    return source if isinstance(source, fx.Node) else None


def _floating(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


def _returned(graph: fx.Graph) -> fx.Node:
    (returned,) = next(node for node in graph.nodes if node.op == "output").args
    assert isinstance(returned, fx.Node)
    return returned


def _attribute(module: nn.Module, path: str) -> Any:
    *parents, name = path.split(".")
    return getattr(module.get_submodule(".".join(parents)), name)
