"""Compute the differences of tokens when an ablation moves one feature of them: products of two
factors.

Such products pass through attention without becoming whole tensors.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import torch
import torch.nn.functional as functional
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from axiom_bench.cutting.ablation.graph import (
    AVERAGE_POOL,
    DIVIDE,
    IDENTITY,
    MEAN,
    MULTIPLY,
    RESHAPE,
    STRUCTURE,
    HeadGraph,
    Value,
    argument,
    is_reshape,
)
from axiom_bench.cutting.tokens import ChannelsLast, Tokens

REDUCTIONS = MEAN | AVERAGE_POOL | {"sum", torch.sum}
# views of one value: each factor passes through by itself
VIEWS = STRUCTURE - {
    "sum",
    torch.sum,
    operator.neg,
}


@dataclass(frozen=True)
class RankOne:
    """The difference left * right of rows (n, ...).

    Both factors have the whole shape. Along most axes one of them is expanded (a stride of 0). The
    change of each token has no feature axis, and the direction in which all tokens move has no
    token axis. So a row costs as many numbers as tokens and features together, instead of their
    product.
    """

    left: Value
    right: Value

    def map(self, function: Callable[[Value], Value]) -> Self:
        """Apply a function to each factor, and return the product of the results."""
        return type(self)(function(self.left), function(self.right))

    def dense(self) -> Value:
        """Return the difference as one tensor, or as a tuple of them."""
        return pytree.tree_map(torch.mul, self.left, self.right)

    def without(self, axis: int) -> tuple[Tensor, Tensor] | None:
        """Return a factor that is constant along an axis, with size 1 there, and the other factor.

        None if both vary along the axis.
        """
        for constant, other in ((self.left, self.right), (self.right, self.left)):
            small = compact(constant)
            if small.shape[axis] == 1:
                return small, compact(other, axis)
        return None


def compact(x: Tensor, *keep: int) -> Tensor:
    """Return x with size 1 along every axis that is expanded, except the rows and the axes
    `keep`.

    An expanded axis holds the same numbers again, so one of them is enough for a product.
    """
    kept = {0, *(axis % x.ndim for axis in keep)}
    for axis in range(x.ndim):
        if x.stride(axis) == 0 and axis not in kept:
            x = x.narrow(axis, 0, 1)
    return x


def passed(head: HeadGraph, node: Any, factors: RankOne, value: Value) -> RankOne | None:
    """Return the difference of a node whose first input moves by `factors`; None if it isn't a
    product.

    `value` is the node's value for the image.
    """
    name = head.operation(node)
    if is_reshape(node):
        return _as_tokens(node.target.__self__, factors, value)
    if name in IDENTITY or (name is functional.pad and value.shape[1:] == factors.left.shape[1:]):
        return factors
    if name in RESHAPE:
        return factors.map(lambda factor: factor.reshape(len(factor), *value.shape[1:]))
    if name is nn.Linear:
        return _linear(factors, head.layer(node).weight)
    if len(node.all_input_nodes) > 1:
        return None
    if name in REDUCTIONS:
        return _reduced(head, node, factors, value)
    if name in VIEWS:
        return factors.map(lambda factor: head.apply(node, lambda source: factor))
    if name in MULTIPLY or (name in DIVIDE and isinstance(node.args[0], fx.Node)):
        scaled = head.apply(node, lambda source: compact(factors.right))
        return RankOne(factors.left, scaled.expand_as(factors.right))
    return None


def _as_tokens(reshape: Tokens | ChannelsLast, maps: RankOne, tokens: Tensor) -> RankOne | None:
    """Return the difference of tokens (1, N, K) or (1, H, W, K) if their maps move.

    Tokens that are on no map don't move.
    """
    parts = maps.without(1)
    if parts is None or parts[1][0].numel() != maps.left.shape[1]:
        return None
    change, direction = parts
    num_leading = tokens.shape[1] - change[0].numel() if isinstance(reshape, Tokens) else 0
    rest = change.new_zeros(len(change), num_leading, 1) if num_leading else None
    shape = (len(change), *tokens.shape[1:])
    left = reshape.from_maps(change, rest)
    ones = [1 for _ in shape[2:]]
    right = direction.reshape(len(change), *ones, -1)
    return RankOne(left.expand(shape), right.expand(shape))


def _reduced(head: HeadGraph, node: fx.Node, factors: RankOne, value: Tensor) -> RankOne | None:
    """Return the difference of a mean, a sum or an average pooling over axes along which one factor
    is constant.
    """
    last = factors.left.ndim
    # pooling has no argument that names its axes
    if head.operation(node) in AVERAGE_POOL:
        axes = [*range(2, last)]
        keeps_axes = True
    else:
        dim = argument(node, 1, "dim")
        dims = [dim] if isinstance(dim, int) else dim or ()
        axes = [axis % last for axis in dims]
        keeps_axes = argument(node, 2, "keepdim", False)
    if not axes or 0 in axes:
        return None
    for constant, varying in ((factors.left, factors.right), (factors.right, factors.left)):
        small = compact(constant)
        if any(small.shape[axis] > 1 for axis in axes):
            continue
        terms = compact(varying, *axes)
        reduced = head.apply(node, lambda source: terms)  # noqa: B023 - the lambda is called at once
        if not keeps_axes:
            small = small.squeeze(tuple(axes))
        shape = (len(small), *value.shape[1:])
        return RankOne(small.expand(shape), reduced.expand(shape))
    return None


def _linear(factors: RankOne, weight: Tensor) -> RankOne | None:
    """Return the difference of a linear layer's output: only the factor that varies with the
    features is multiplied.
    """
    parts = factors.without(-1)
    if parts is None:
        return None
    constant, varying = parts
    moved = functional.linear(varying, weight)
    shape = (*factors.left.shape[:-1], len(weight))
    return RankOne(constant.expand(shape), moved.expand(shape))


Difference = Tensor | RankOne | None  # None: nothing moves


def product_difference(x: Tensor, dx: Difference, y: Tensor, dy: Difference) -> Tensor:
    """Compute (x + dx) @ (y + dy) - x @ y as rows (n, ..., L, N).

    `x` (1, ..., L, e) and `y` (1, ..., e, N) are an image's values.
    """
    moved = x + dx if isinstance(dx, Tensor) else x
    parts = [] if dx is None else [_times(dx, y)]
    if dy is not None:
        parts.append(_times(moved, dy))
    if isinstance(dx, RankOne) and dy is not None:
        parts.append(_times(dx, dy))
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def _times(x: Tensor | RankOne, y: Tensor | RankOne) -> Tensor:
    """Compute x @ y. A factor that is constant along the axis of the sum needs no product."""
    if isinstance(y, RankOne):
        parts = y.without(-2)
        return _times(x, y.dense()) if parts is None else _times(x, parts[1]) * parts[0]
    if isinstance(x, RankOne):
        parts = x.without(-1)
        return _times(x.dense(), y) if parts is None else parts[0] * _times(parts[1], y)
    if len(x) == 1 < len(y):
        return _times(y.mT, x.mT).mT
    if len(y) == 1 < len(x):  # one product for all rows, since matmul would copy y for each row
        rows = x.movedim(0, -3)
        product = rows.flatten(-3, -2) @ y[0]
        products: Tensor = product.unflatten(-2, rows.shape[-3:-1]).movedim(-3, 0)
        return products
    return x @ y


def attention_change(
    tensors: tuple[Tensor, Tensor, Tensor],
    differences: tuple[Difference, Difference, Difference],
    mask: Tensor | None,
    scale: float | None,
) -> Tensor:
    """Compute the change of attention's output, (n, ..., L, e), if queries, keys and values move.

    Args:
        tensors: An image's queries (1, ..., L, e), keys (1, ..., N, e) and values.
        differences: The differences of queries, keys and values.
        mask: A term that is added to the logits, or a bool that is False for the logits to leave
            out.
        scale: The factor of the logits; None: 1 / sqrt(e).
    """
    query, key, value = tensors
    query_difference, key_difference, value_difference = differences
    factor = query.shape[-1] ** -0.5 if scale is None else scale
    logits = query @ key.mT * factor
    if mask is not None and mask.dtype == torch.bool:
        logits = logits.masked_fill(~mask, float("-inf"))
    elif mask is not None:
        logits = logits + mask
    before = logits.softmax(-1)
    # attention's weights stay, so that only the values move
    if query_difference is None and key_difference is None:
        return product_difference(before, None, value, value_difference)
    if isinstance(key_difference, RankOne):
        key_difference = key_difference.map(lambda keys: keys.mT)
    elif key_difference is not None:
        key_difference = key_difference.mT
    change = product_difference(query, query_difference, key.mT, key_difference) * factor
    after = (logits + change).softmax(-1)
    return product_difference(before, after - before, value, value_difference)
