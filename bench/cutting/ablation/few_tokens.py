"""Reduce heads that read few of their tokens: steps that keep tokens apart are computed for those
tokens only.

In a transformer's block behind the layer, only the keys and values of its attention need all
tokens. All other work on the tokens that the head doesn't read would be wasted, in every row of an
ablation.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

import torch
import torch.nn.functional as functional
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from axiom_bench.cutting.ablation.graph import (
    ADD,
    CLAMP,
    DIVIDE,
    ELEMENTWISE,
    IDENTITY,
    MATMUL,
    MULTIPLY,
    PERMUTE,
    RESHAPE,
    HeadGraph,
    Values,
    argument,
    first_input,
    permuted_axes,
)
from axiom_bench.cutting.trunk_and_head import SideKind

NORMS = {nn.LayerNorm, functional.layer_norm}
LINEAR = {nn.Linear, functional.linear}
SOFTMAX = {nn.Softmax, functional.softmax, torch.softmax, "softmax"}
POINTWISE = ELEMENTWISE | IDENTITY | CLAMP.keys() | ADD | MULTIPLY | DIVIDE
EACH_TOKEN = LINEAR - {functional.linear} | NORMS | ELEMENTWISE | IDENTITY | CLAMP.keys()
TRANSPOSE = {torch.transpose, "transpose"}
# The axis of the tokens in each argument of a call, by the argument's place or name.
Inputs = dict[int | str, int]
Entry = TypeVar("Entry")


@dataclass(frozen=True)
class FewTokens:
    """The steps of a head that can be computed for few tokens.

    An ablation then costs the tokens that a score reads, often only the class token.
    """

    head: HeadGraph
    values: Values  # the values of the head's nodes, for any images
    span: range  # the tokens that the head reads
    # True if attention that is written out is followed too. False for the graph that also gives the
    # logits, since it would change the published values of those networks.
    through_attention: bool

    @cached_property
    def axes(self) -> dict[fx.Node, int]:
        """The nodes of which only these tokens are used, with the axis of the tokens."""
        axes: dict[fx.Node, int] = {}
        for node in reversed(self.head.nodes):
            # not those without effect
            users = [user for user in node.users if user.users or user.op == "output"]
            if self.through_attention:
                users = [user for user in users if not _reads_batch_size(user)]
            needed = {axis for user in users for axis in self._axes_for(user, node, axes)}
            axis = needed.pop() if len(needed) == 1 else None
            if axis is not None and self._inputs(node, axis) is not None:
                axes[node] = axis
        return axes

    @cached_property
    def graph(
        self,
    ) -> tuple[fx.GraphModule, dict[fx.Node, fx.Node], dict[tuple[fx.Node, int], fx.Node]]:
        """The head with the span's size in these axes; each node's copy; and the nodes that select
        the tokens.

        The last are listed by the node and axis that they select from. `reading` checks that the
        graph still gives the network's scores.
        """
        graph = fx.Graph()
        copies: dict[fx.Node, fx.Node] = {}
        taken: dict[tuple[fx.Node, int], fx.Node] = {}

        def tokens(node: Any, axis: int) -> fx.Node:
            if node in self.axes:
                return copies[node]
            if (node, axis) not in taken:
                place = (copies[node], axis, self.span.start, len(self.span))
                taken[node, axis] = graph.call_method("narrow", place)
            return taken[node, axis]

        node: Any
        for node in self.head.nodes:
            copy = graph.node_copy(node, copies.__getitem__)
            copies[node] = copy
            if node in self.axes:
                inputs = self._inputs(node, self.axes[node]) or {}
                graph.erase_node(copy)  # its inputs may need nodes of their own
                args = fx.map_arg(node.args, copies.__getitem__)
                args = [
                    tokens(arg, inputs[key]) if key in inputs else args[key]
                    for key, arg in enumerate(node.args)
                ]
                kwargs = dict(fx.map_arg(node.kwargs, copies.__getitem__))
                for key in inputs.keys() & kwargs.keys():
                    kwargs[key] = tokens(node.kwargs[key], inputs[key])
                if self.head.operation(node) in RESHAPE:
                    size = list(self.values[node].shape[1:])
                    size[self.axes[node] - 1] = len(self.span)
                    copies[node] = graph.call_method("reshape", (args[0], -1, *size))
                else:
                    copies[node] = graph.create_node(node.op, node.target, tuple(args), kwargs)
            elif node.args and node.args[0] in self.axes:
                token = self._token(node)
                if token is not None and node.op == "call_method":
                    copy.args = (copy.args[0], token.axis, token.number - self.span.start, 1)
                elif token is not None:
                    copy.args = (copy.args[0], (slice(None), token.number - self.span.start))
        return fx.GraphModule(self.head.module, graph, "Head"), copies, taken

    def copied_values(self, values: Values) -> Values:
        """Return the values of the copies, from those of the head's own nodes.

        The values of the head are computed once. Those of the copies are parts of them.
        """
        _, copies, taken = self.graph
        few = {
            copies[node]: self._take(value, self.axes[node]) if node in self.axes else value
            for node, value in values.items()
        }
        return few | {take: self._take(values[node], axis) for (node, axis), take in taken.items()}

    def renamed(self, by_node: dict[fx.Node, Entry]) -> dict[fx.Node, Entry]:
        """Return the same entries, listed by the copies of their nodes."""
        return {self.graph[1][node]: entry for node, entry in by_node.items()}

    def copied_side_kinds(self, side_kinds: dict[fx.Node, SideKind]) -> dict[fx.Node, SideKind]:
        """Return the kinds of the sides, listed by their copies. Tokens selected from a constant
        are a constant too.
        """
        _, copies, taken = self.graph
        kinds = {copies[node]: kind for node, kind in side_kinds.items()}
        for (node, _axis), take in taken.items():
            if node.op == "get_attr" or side_kinds.get(node) is SideKind.SHARED:
                kinds[take] = SideKind.SHARED
        return kinds

    def _take(self, value: object, axis: int) -> object:
        def narrow(leaf: object) -> object:
            if not isinstance(leaf, Tensor):
                return leaf
            return leaf.narrow(axis, self.span.start, len(self.span))

        return pytree.tree_map(narrow, value)

    def _axes_for(
        self, user: Any, source: fx.Node, axes: dict[fx.Node, int]
    ) -> Iterator[int | None]:
        """Yield the axes in which a user needs only the few tokens of a source; None if it needs
        all tokens.
        """
        token = self._token(user) if source is user.args[0] else None
        if token is not None:
            yield token.axis
            return
        inputs = self._inputs(user, axes[user]) if user in axes else None
        keys = [key for key, arg in (*enumerate(user.args), *user.kwargs.items()) if arg is source]
        if not keys or inputs is None:
            yield None
            return
        for key in keys:
            yield inputs.get(key)

    def _token(self, node: fx.Node) -> Token | None:
        return selected_token(node, self.values, self.through_attention)

    def _inputs(self, node: Any, axis: int) -> Inputs | None:
        """Return the arguments of a node that need only few tokens, with their axis; None if the
        node mixes tokens.
        """
        name = self.head.operation(node)
        is_output_of = node.target is operator.getitem and node.args[1] == 0
        if self._is_attention(node) or (is_output_of and self._is_attention(node.args[0])):
            return {0: axis}
        shape = self._shape_of(node)
        source = self._shape_of(first_input(node))
        # Each operation below keeps tokens apart along some axes only.
        if not source or not 0 < axis < len(shape) or shape[axis] <= len(self.span):
            return None
        if not self.through_attention and not self._was_followed(node, shape):
            return None
        last = len(shape) - 1
        if name in NORMS:
            if name is nn.LayerNorm:
                sizes = self.head.layer(node).normalized_shape
            else:
                sizes = argument(node, 1, "normalized_shape")
            return {0: axis} if axis <= last - len(sizes) else None
        if name in LINEAR:
            return {0: axis} if axis < last else None
        if name in SOFTMAX:
            dim = self.head.layer(node).dim if name is nn.Softmax else argument(node, 1, "dim")
            return {0: axis} if isinstance(dim, int) and dim % len(shape) != axis else None
        if name in POINTWISE:
            return self._pointwise(node, axis, shape)
        if name in MATMUL:
            keeps_axis = (
                axis == last - 1 and len(source) == len(shape) and source[axis] == shape[axis]
            )
            return {0: axis} if keeps_axis else None
        if name is functional.scaled_dot_product_attention:
            return self._queries(node, axis, shape)
        if name in PERMUTE:
            return {0: permuted_axes(node)[axis] % len(shape)}
        if name in TRANSPOSE:
            first, second = (dim % len(shape) for dim in node.args[1:3])
            return {0: {first: second, second: first}.get(axis, axis)}
        if name in RESHAPE:
            before = torch.Size(shape[:axis]).numel()
            for source_axis in range(1, len(source)):
                has_same_place = torch.Size(source[:source_axis]).numel() == before
                if has_same_place and source[source_axis] == shape[axis]:
                    return {0: source_axis}
        return None

    def _shape_of(self, arg: object) -> tuple[int, ...]:
        return _shape(self.values.get(arg)) if isinstance(arg, fx.Node) else ()

    def _pointwise(self, node: fx.Node, axis: int, shape: tuple[int, ...]) -> Inputs | None:
        """Return the arguments of an elementwise operation that have all tokens in this axis of the
        result.
        """
        inputs: Inputs = {}
        for key, arg in enumerate(node.args):
            size = self._shape_of(arg)
            place = axis - len(shape) + len(size)
            if place >= 0 and size[place] == shape[axis]:
                inputs[key] = place
        return inputs or None

    def _queries(self, node: fx.Node, axis: int, shape: tuple[int, ...]) -> Inputs | None:
        """Return attention's queries and a mask with a row per query, if the axis is that of the
        queries.
        """
        if axis != len(shape) - 2 or argument(node, 5, "is_causal") or len(node.args) > 3:
            return None
        inputs: Inputs = {0: axis}
        mask = self._shape_of(node.kwargs.get("attn_mask"))
        if len(mask) > 1 and mask[-2] == shape[axis]:
            inputs["attn_mask"] = len(mask) - 2
        return inputs

    def _was_followed(self, node: fx.Node, shape: tuple[int, ...]) -> bool:
        """Return True if a node may be computed for few tokens in the graph that also gives the
        logits.
        """
        name = self.head.operation(node)
        if len(shape) != 3:
            return False
        if name in ADD:
            are_alike = all(self._shape_of(arg) == shape for arg in node.args)
            return are_alike and not node.kwargs
        return name in EACH_TOKEN and all(
            other.op == "get_attr" for other in node.all_input_nodes[1:]
        )

    def _is_attention(self, node: object) -> bool:
        """Return True if this is nn.MultiheadAttention with more queries than the span has."""
        if not isinstance(node, fx.Node) or dict(node.kwargs) != {"need_weights": False}:
            return False
        if self.head.operation(node) is not nn.MultiheadAttention:
            return False
        has_inputs = len(node.args) == 3 and all(isinstance(arg, fx.Node) for arg in node.args)
        is_batch_first = bool(self.head.layer(node).batch_first)
        shape = self.values[node][0].shape
        return has_inputs and is_batch_first and len(shape) == 3 and shape[1] > len(self.span)


def few_tokens(head: HeadGraph, values: Values, through_attention: bool) -> FewTokens | None:
    """Return the steps of a head that can be computed for few tokens; None if there are none.

    `values` are those of the head's nodes, for any images. FewTokens documents `through_attention`.
    """
    tokens = [selected_token(node, values, through_attention) for node in head.nodes]
    indices = [token.number for token in tokens if token is not None]
    if not indices or (not through_attention and min(indices) < max(indices)):
        return None
    span = range(min(indices), max(indices) + 1)
    few = FewTokens(head, values, span, through_attention)
    return few if few.axes else None


class Token(NamedTuple):
    """One token of a value."""

    number: int  # the token's number in the axis of the tokens
    axis: int


def selected_token(node: Any, values: Values, through_attention: bool) -> Token | None:
    """Return the one token that a node selects of several, or None.

    The forms are x[:, i] and x[:, i, :] of (B, N, K), and x.narrow(axis, i, 1).
    """
    source = node.args[0] if node.args else None
    shape = _shape(values[source]) if isinstance(source, fx.Node) else ()
    if through_attention and node.target == "narrow" and len(node.args) == 4 and node.args[3] == 1:
        return Token(node.args[2], node.args[1])
    place = node.args[1] if node.target is operator.getitem else None
    if not isinstance(place, tuple) or len(shape) != 3 or shape[1] == 1:
        return None
    if len(place) != 2 and not (through_attention and place[2:] == (slice(None),)):
        return None
    is_index = isinstance(place[1], int) and place[1] >= 0 and place[0] == slice(None)
    return Token(place[1], 1) if is_index else None


def _reads_batch_size(node: fx.Node) -> bool:
    """Return True if a node is a shape of which only the number of images is read.

    Such a user needs no token of its source.
    """
    if node.target == "size":
        return node.args[1:] == (0,)
    is_shape = node.target is getattr and node.args[1] == "shape"
    return is_shape and all(
        user.target is operator.getitem and user.args[1] == 0 for user in node.users
    )


def _shape(value: object) -> tuple[int, ...]:
    return tuple(value.shape) if isinstance(value, Tensor) else ()
