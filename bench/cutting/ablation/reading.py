"""Reads a head once: its graph, checked on one image, with one token taken early, and what its last layer is."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from axiom_bench.cutting.ablation.graph import (
    ADD,
    AVERAGE_POOL,
    CLAMP,
    CONVOLUTION,
    ELEMENTWISE,
    IDENTITY,
    MEAN,
    RESHAPE,
    HeadGraph,
    Values,
    first_input,
    spatial_mean,
)
from axiom_bench.cutting.numerics import axes
from axiom_bench.cutting.passes import equal_up_to_rounding
from axiom_bench.cutting.trunk_and_head import SideKind, select
from axiom_bench.errors import BenchError

NUMBERS = (int, float, str, torch.dtype, torch.device, type(None))
POWERS = {torch.pow, operator.pow, "pow"}
STEEP = {torch.sqrt, torch.rsqrt, torch.log, torch.log2, torch.log10, "sqrt", "rsqrt", "log", "log2", "log10"}
EACH_TOKEN = {nn.Linear, nn.LayerNorm, functional.layer_norm} | ELEMENTWISE | IDENTITY | CLAMP.keys()


def read_head(module: fx.GraphModule, kinds: list[SideKind], activations: Tensor, sides: Any) -> HeadGraph | None:
    """The head's graph, checked with one image.

    None where a value doesn't keep its images in its first dimension, be it one, and where an operation is steep at 0.
    There x + d has the rounding of x, of which a logarithm makes any number. activations: (1, K, *space), sides:
    of that image.
    """
    bare = HeadGraph(module, None, (), 0, 0)
    rows = [torch.zeros(count, dtype=torch.long, device=activations.device) for count in (2, 3)]
    batches = [(activations[index], select(sides, kinds, index, 1)) for index in rows]
    expected = module(activations.clone(), *(side.clone() if isinstance(side, Tensor) else side for side in sides))
    bare = HeadGraph(for_one_token(bare, bare.evaluate(*batches[0])), None, (), 0, 0)
    two, three = (bare.evaluate(*batch) for batch in batches)
    calls = [node for node in two if node.op.startswith("call")]
    if not all(_has_rows(two[node], three[node]) for node in calls) or any(
        _is_steep(bare, node) or _loses_one_row(node) for node in calls
    ):
        return None
    floats = [node for node in calls if _is_floating(two[node])]
    if not equal_up_to_rounding(two[bare.logits][:1], expected):
        return None
    sizes = [two[node].numel() * two[node].element_size() // 2 for node in (bare.activations, *floats)]
    class_layer, tail = _class_layer(bare, two)
    return HeadGraph(bare.module, class_layer, tail, sum(sizes), max(sizes))


def _class_layer(head: HeadGraph, values: Values) -> tuple[fx.Node | None, tuple[fx.Node, ...]]:
    """Walks back from the logits through what keeps classes apart, to the layer whose rows are the classes."""
    tail: list[fx.Node] = []
    node = head.logits
    while node.op != "placeholder":
        name = head.operation(node)
        if (name is nn.Linear and values[node].ndim == 2) or (name in CONVOLUTION and head.layer(node).groups == 1):
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
    return name in IDENTITY | AVERAGE_POOL | ELEMENTWISE | CLAMP.keys() or (
        name in MEAN and spatial_mean(node, values[source])
    )


def _has_rows(two: Any, three: Any) -> bool:
    """Whether every tensor in a value of two and of three images has a row for each, as an LSTM's state hasn't."""
    pairs = zip(pytree.tree_leaves(two), pytree.tree_leaves(three), strict=True)
    return all(
        isinstance(first, Tensor) and first.shape[:1] == (2,) and second.shape == (3, *first.shape[1:])
        for first, second in pairs
        if not isinstance(first, NUMBERS)
    )


def _loses_one_row(node: fx.Node) -> bool:
    """Whether it squeezes every dimension of size 1, the images' too where there is one."""
    return node.target in ("squeeze", torch.squeeze) and len((*node.args, *node.kwargs)) == 1


def _is_steep(head: HeadGraph, node: fx.Node) -> bool:
    name = head.operation(node)
    if name not in POWERS:
        return name in STEEP
    exponent = node.kwargs.get("exponent", node.args[-1])
    return not (isinstance(exponent, int | float) and exponent in (1, 2, 3, 4))


def _is_floating(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


def linear_head_weight(head: HeadGraph | None, activations: Tensor, sides: Any) -> Tensor:
    """The linear layer's weight (C, K). Raises BenchError for any other head.

    head: None where it can't be read as a graph. activations: (1, K, *space), sides: of that image. The graph names the
    last linear layer; that its input is the average of the maps is seen on random activations, which no other
    operation in between would leave equal to their average.
    """
    refusal = BenchError(
        "The head after the target layer is not global average pooling and one linear layer, which `cam` needs; "
        "choose the last layer before the pooling, or another method."
    )
    if head is None or head.class_layer is None or head.operation(head.class_layer) is not nn.Linear:
        raise refusal
    if any(head.operation(node) not in IDENTITY for node in head.tail):
        raise refusal
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(activations.shape, generator=generator).to(activations, non_blocking=True)
    pooled = head.evaluate(maps, sides)[head.class_layer.all_input_nodes[0]]
    if pooled.shape != maps.shape[:2] or not torch.allclose(pooled, maps.mean(axes(maps)), rtol=1e-4, atol=1e-6):
        raise refusal
    return head.layer(head.class_layer).weight.detach()


def for_one_token(head: HeadGraph, values: Values) -> fx.GraphModule:
    """The head of a ViT that keeps one token of many, computed for that token alone where tokens don't mix.

    Of a block behind the layer only the keys and values of its attention need all tokens. The projection, the MLP and
    the norms behind them are spent on tokens that the head throws away, in every row of an ablation. The head's own
    module where it doesn't take one token out of three dimensions (B, N, K), or takes several.
    values: of the nodes, for any images.
    """
    indices = {index for node in head.nodes if (index := _token_index(node, values)) is not None}
    if len(indices) != 1:
        return head.module
    early = _OneToken(head, values, *indices)
    return early.module if early.narrow else head.module


@dataclass(frozen=True)
class _OneToken:
    head: HeadGraph
    values: Values
    index: int

    @cached_property
    def narrow(self) -> set[fx.Node]:
        """The nodes of which only the one token is used, and that can be computed from that token of their inputs."""
        narrow: set[fx.Node] = set()
        for node in reversed(self.head.nodes):
            users = [user for user in node.users if user.users or user.op == "output"]  # not those without effect
            one_token = all(_token_index(user, self.values) is not None or node in self._sources(user, narrow)
                            for user in users)  # fmt: skip
            fits = self._each_token(node) or self._is_attention(node) or self._is_its_output(node)
            if users and one_token and fits:
                narrow.add(node)
        return narrow

    @property
    def module(self) -> fx.GraphModule:
        """The head with every narrow node made of its sources' one token: (B, 1, K) for (B, N, K)."""
        graph = fx.Graph()
        copies: dict[fx.Node, fx.Node] = {}
        tokens: dict[fx.Node, fx.Node] = {}

        def token(node: Any) -> Any:
            if not isinstance(node, fx.Node) or node in self.narrow:
                return copies.get(node, node)
            if node not in tokens:
                place = (slice(None), slice(self.index, self.index + 1))
                tokens[node] = graph.call_function(operator.getitem, (copies[node], place))
            return tokens[node]

        def copied_input(single_token_inputs: list[Any], node: fx.Node) -> fx.Node:
            return token(node) if node in single_token_inputs else copies[node]

        for node in self.head.nodes:
            if node in self.narrow and self._is_attention(node):
                query, *others = node.args
                args = (token(query), *(copies[other] for other in others))  # type: ignore[index]
                copies[node] = graph.call_module(str(node.target), args, dict(node.kwargs))
                continue
            sources = self._sources(node, self.narrow) if not self._is_its_output(node) else []
            copies[node] = graph.node_copy(node, partial(copied_input, sources))
            if _token_index(node, self.values) is not None and node.args[0] in self.narrow:
                copies[node].args = (copies[node].args[0], (slice(None), 0))
        return fx.GraphModule(self.head.module, graph, "Head")

    def _sources(self, node: fx.Node, narrow: set[fx.Node]) -> list[Any]:
        """Of which inputs a narrow node needs the one token alone."""
        if node not in narrow:
            return []
        if self._is_attention(node):
            return [node.args[0]] if node.args[0] not in node.args[1:] else []
        return list(node.args) if self.head.operation(node) in ADD else [node.args[0]]

    def _each_token(self, node: fx.Node) -> bool:
        """Whether every token of the output depends on that token of the inputs alone."""
        name, value = self.head.operation(node), self.values.get(node)
        if not isinstance(value, Tensor) or value.ndim != 3:
            return False
        if name in ADD:
            return not node.kwargs and all(
                isinstance(arg, fx.Node) and _shape(self.values[arg]) == value.shape for arg in node.args
            )
        if name not in EACH_TOKEN or any(other.op != "get_attr" for other in node.all_input_nodes[1:]):
            return False
        if name is nn.LayerNorm:
            return len(self.head.layer(node).normalized_shape) == 1
        return name is not functional.layer_norm or (len(node.args) > 1 and len(node.args[1]) == 1)  # type: ignore[arg-type]

    def _is_attention(self, node: fx.Node) -> bool:
        if self.head.operation(node) is not nn.MultiheadAttention or dict(node.kwargs) != {"need_weights": False}:
            return False
        three = len(node.args) == 3 and all(isinstance(arg, fx.Node) for arg in node.args)
        return three and bool(self.head.layer(node).batch_first) and self.values[node][0].ndim == 3

    def _is_its_output(self, node: fx.Node) -> bool:
        if node.target is not operator.getitem or node.args[1] != 0:
            return False
        return isinstance(node.args[0], fx.Node) and self._is_attention(node.args[0])


def _token_index(node: fx.Node, values: Values) -> int | None:
    """Which token a node takes, where it is x[:, i] of a value (B, N, K)."""
    place = node.args[1] if node.target is operator.getitem else None
    if not isinstance(place, tuple) or len(place) != 2 or place[0] != slice(None):
        return None
    index, source = place[1], node.args[0]
    if not isinstance(index, int) or index < 0 or not isinstance(source, fx.Node):
        return None
    return index if len(_shape(values[source])) == 3 else None


def _shape(value: Any) -> tuple[int, ...]:
    return tuple(value.shape) if isinstance(value, Tensor) else ()
