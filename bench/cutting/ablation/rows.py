"""Compute the rest of the head once channels have mixed, as differences with one row per ablation
of one image.

A row holds the change of a value when the row's channel is ablated. A linear operation takes only
the difference, ReLU takes it by `clamp_difference`, and any other operation is evaluated at x + d
and at x. The image's own value x broadcasts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor, fx, nn
from torch.nn.functional import linear
from torch.utils import _pytree as pytree

from axiom_bench.cutting.ablation.batched import Differences, is_flat, sparse_product
from axiom_bench.cutting.ablation.graph import (
    ADD,
    BATCH_NORM,
    CLAMP,
    CONVOLUTION,
    LINEAR_IN_ITS_INPUT,
    MATMUL,
    MULTIPLY,
    SHAPE_ONLY,
    HeadGraph,
    Value,
    Values,
    batch_norm_scale,
    clamp_difference,
    first_input,
    is_output,
)
from axiom_bench.cutting.ablation.rank_one import (
    RankOne,
    attention_change,
    compact,
    passed,
    product_difference,
)
from axiom_bench.cutting.images import Convolution
from axiom_bench.cutting.trunk_and_head import SideKind, select

# The change of each node's value, (n, ...): a tensor, a RankOne, or a tuple of them. For a size, a
# mask or an index it is the value after the ablation.
Changes = dict[fx.Node, Value]


@dataclass(frozen=True)
class AblationRows:
    """Some of the ablations of one image. n is their number.

    `drops` makes as many at once as fit into memory.
    """

    head: HeadGraph
    values: Values
    channelwise: Differences
    side_kinds: dict[fx.Node, SideKind]
    image: int  # the image's index in the batch
    channels: Tensor  # the ablated channels, (n,)

    def last_difference(self, last: fx.Node) -> Tensor:
        """Compute the difference of the last node, (n, ...), through all nodes before it."""
        differences: Changes = {}
        nodes = self.head.nodes
        for node in nodes[: nodes.index(last) + 1]:
            if (
                not node.op.startswith("call")
                or node in self.channelwise
                or node in self.side_kinds
            ):
                continue
            differences[node] = self._difference(node, differences)
            for source in self.head.last_uses.get(node, ()):
                differences.pop(source, None)
        last_difference: Tensor = self.node_difference(last, differences)
        return last_difference

    def node_difference(self, node: fx.Node, differences: Changes) -> Value:
        """Return the rows (n, ...) of a node's difference; None if no ablation changes the node's
        value.
        """
        if node in differences or node not in self.channelwise:
            difference = differences.get(node)
            return difference.dense() if isinstance(difference, RankOne) else difference
        # While channels don't mix, a row is zero except in its ablated channel.
        channelwise = self.channelwise[node]
        ablated = channelwise[self.image, self.channels]
        rows = ablated.new_zeros(len(ablated), *channelwise.shape[1:])
        rows[torch.arange(len(ablated), device=ablated.device), self.channels] = ablated
        return rows.flatten(1) if is_flat(self.values[node]) else rows

    def image_value(self, node: fx.Node) -> Value:
        """Return the image's own value (1, ...), which broadcasts against rows."""
        value = self.values[node]
        if node.op == "get_attr" or self.side_kinds.get(node) is SideKind.SHARED:
            return value
        image = slice(self.image, self.image + 1)
        return pytree.tree_map(
            lambda leaf: leaf[image] if isinstance(leaf, Tensor) else leaf, value
        )

    def _difference(self, node: fx.Node, differences: Changes) -> Value:
        """Compute the difference of a node from those of its inputs, by the first rule that
        applies.
        """
        name = self.head.operation(node)
        source = first_input(node)
        factors = None if source is None else self._factors(source, differences)
        if name in SHAPE_ONLY and not _floating(self.values[node]):

            def shaped(source: fx.Node) -> object:
                if factors is not None:
                    return factors.left  # of the same shape as the difference
                return self.node_difference(source, differences)

            return self.head.apply(node, shaped)
        if factors is not None:
            product = passed(self.head, node, factors, self.image_value(node))
            if product is not None:
                return product
        if name in MATMUL | {functional.scaled_dot_product_attention}:
            change = self._mixed(node, name, differences)
            if change is not None:
                return change
        before = None if source is None else self.channelwise.get(source)
        # The first layer that mixes channels needs only the part of its weight that the ablated
        # channel meets.
        if name in CONVOLUTION and before is not None and _separable(self.head.layer(node)):
            size = self.image_value(node).shape[2:]
            return self._first_convolution(self.head.layer(node), before, size)
        if (
            name is nn.Linear
            and source is not None
            and before is not None
            and is_flat(self.values[source])
        ):
            return self._first_product(self.head.layer(node), before)
        if name is nn.MultiheadAttention:
            moved = self._attention(node, differences)
            if moved is not None:
                return moved, None
        difference = None if source is None else self.node_difference(source, differences)
        if (
            source is None
            or difference is None
            or not all(_floating(self.values[part]) for part in (node, source))
        ):
            return self._evaluated_difference(node, differences)
        if any(
            _is_index(self.values[part]) and part in differences for part in node.all_input_nodes
        ):
            # a mask or an index that an ablation changes
            return self._evaluated_difference(node, differences)
        if name in ADD and not node.kwargs:
            return self._total(node, differences)
        if name in MULTIPLY and len(node.all_input_nodes) == 2:
            return self._product(node, differences)
        if name in CLAMP:
            return clamp_difference(self.image_value(source), difference, *CLAMP[name])
        if is_output(name):
            return self.head.layer(node).difference(self.image_value(source), difference)
        if name in LINEAR_IN_ITS_INPUT or name is torch.cat:
            return self.head.apply(
                node,
                lambda arg: self._difference_argument(arg, differences, or_zeros=name is torch.cat),
            )
        linear = self._linear(node, difference)
        return self._evaluated_difference(node, differences) if linear is None else linear

    def _linear(self, node: fx.Node, difference: Tensor) -> Tensor | None:
        """Apply the linear part of a layer to a difference; None for a layer that has no such form
        here.
        """
        name = self.head.operation(node)
        if name not in {nn.Linear} | CONVOLUTION | BATCH_NORM:
            return None
        layer = self.head.layer(node)
        if name is nn.Linear:
            if difference.ndim != 2:
                return functional.linear(difference, layer.weight)
            return sparse_product(difference, layer.weight, (difference != 0).any(0))
        if name in CONVOLUTION:
            has_zeros = layer.padding_mode == "zeros"
            return layer._conv_forward(difference, layer.weight, None) if has_zeros else None
        scale = batch_norm_scale(layer, difference)
        return None if scale is None else difference * scale

    def _first_product(self, layer: nn.Linear, before: Tensor) -> Tensor:
        """Compute the product of the first linear layer, (n, N).

        An ablation changes the features of one channel, and needs only their weights.
        """
        features = before[self.image, self.channels][:, None]
        weight = layer.weight.unflatten(1, before.shape[1:])[:, self.channels]
        return torch.bmm(features, weight.permute(1, 2, 0))[:, 0]

    def _first_convolution(
        self, layer: Convolution, before: Tensor, size: tuple[int, ...]
    ) -> Tensor:
        """Compute the first convolution, (n, C, *size).

        An ablation changes one input channel, and needs only that channel's kernels.
        """
        columns = _columns(before[self.image, self.channels], layer)
        kernels = layer.weight[:, self.channels].transpose(0, 1).flatten(2)
        outputs: Tensor = torch.bmm(kernels, columns).unflatten(2, size)
        return outputs

    def _factors(self, node: fx.Node, differences: Changes) -> RankOne | None:
        """Return the difference of a node as a product, if it is known as one."""
        if node in differences:
            return differences[node] if isinstance(differences[node], RankOne) else None
        if node not in self.channelwise or is_flat(self.values[node]) or not self.head.has_tokens:
            return None
        channelwise = self.channelwise[node]
        change = channelwise[self.image, self.channels][:, None]
        direction = functional.one_hot(self.channels, channelwise.shape[1]).to(change)
        shape = (len(change), *channelwise.shape[1:])
        ones = [1 for _ in shape[2:]]
        right = direction.reshape(*direction.shape, *ones).expand(shape)
        return RankOne(change.expand(shape), right)

    def _attention(self, node: Any, differences: Changes) -> Tensor | None:
        """Compute attention's output (n, L, K) if its tokens move in one direction, which differs
        from row to row.

        None if the query moves too, or if a query of many tokens makes the general way cheaper.
        """
        layer = self.head.layer(node)
        # torch's module may get masks or return weights: then it is evaluated as it is
        if not is_plain(node, layer):
            return None
        query_node, token_node = node.args[:2]
        query_difference = self._moving(query_node, differences)
        token_difference = self._moving(token_node, differences)
        query = self.image_value(query_node)
        tokens = self.image_value(token_node)
        has_few_queries = (
            query.ndim == tokens.ndim == 3 and query.shape[1] * layer.num_heads <= query.shape[2]
        )
        parts = token_difference.without(-1) if isinstance(token_difference, RankOne) else None
        if parts is None or not has_few_queries or query_difference is not None:
            return None
        if parts[1].shape[1] != 1:
            return None
        change, direction = parts
        change = change[..., 0].expand(-1, tokens.shape[1])
        image_value: Tensor = self.image_value(node)[0]
        return image_value + attention_difference(layer, query, tokens, change, direction[:, 0])

    def _mixed(self, node: Any, name: object, differences: Changes) -> Tensor | None:
        """Compute the difference of a product of two values, or of attention that is one function.

        None for another form.
        """
        sources = node.args[: 2 if name in MATMUL else 3]
        if not all(isinstance(source, fx.Node) and source.op != "get_attr" for source in sources):
            return None
        values: tuple[Value, ...] = tuple(self.image_value(source) for source in sources)
        moving: tuple[Value, ...] = tuple(self._moving(source, differences) for source in sources)
        # a product with a weight, or one that broadcasts, has no such form
        ndim = self.values[node].ndim
        if ndim < 3 or any(value.ndim != ndim or len(value) != 1 for value in values):
            return None
        if all(part is None for part in moving):
            return torch.zeros_like(self._repeated_for_rows(node))
        if name in MATMUL:
            return product_difference(values[0], moving[0], values[1], moving[1])
        mask = node.kwargs.get("attn_mask")
        is_other = (
            len(node.args) > 3 or node.kwargs.get("is_causal") or node.kwargs.get("enable_gqa")
        )
        if is_other or mask in differences or mask in self.channelwise:
            return None
        mask = None if mask is None else self.image_value(mask)
        return attention_change(values, moving, mask, node.kwargs.get("scale"))

    def _moving(self, node: fx.Node, differences: Changes) -> Tensor | RankOne | None:
        """Return the difference of a node; None also if it is zero, such as that of tokens that are
        on no map.

        What doesn't move needs no product.
        """
        factors = self._factors(node, differences)
        if factors is not None:
            return factors if compact(factors.left).any() else None
        difference: Tensor | None = self.node_difference(node, differences)
        return difference if difference is not None and difference.any() else None

    def _total(self, node: fx.Node, differences: Changes) -> Tensor:
        """Add the differences of the summands, in the node's shape: one may broadcast to an
        unchanged summand.
        """
        changed = []
        for arg in node.args:
            if isinstance(arg, fx.Node) and _floating(self.values[arg]):
                difference = self.node_difference(arg, differences)
                if difference is not None:
                    changed.append(difference)
        total = torch.stack(torch.broadcast_tensors(*changed)).sum(0)
        return total.expand(-1, *self.image_value(node).shape[1:])

    def _product(self, node: fx.Node, differences: Changes) -> Tensor:
        """Compute (x + dx)(y + dy) - x y = dx y + (x + dx) dy."""
        first, second = node.all_input_nodes
        dx = self.node_difference(first, differences)
        dy = self.node_difference(second, differences)
        product: Tensor
        if dy is None:
            product = dx * self._repeated_for_rows(second)
        elif dx is None:
            product = self._repeated_for_rows(first) * dy
        else:
            product = dx * self.image_value(second) + (self.image_value(first) + dx) * dy
        return product

    def _difference_argument(self, arg: fx.Node, differences: Changes, or_zeros: bool) -> Value:
        """Return an argument of an operation that takes only differences.

        This is the argument's rows or zeros. A size is returned as the rows see it.
        """
        difference = self.node_difference(arg, differences)
        if difference is not None:
            return difference
        if not _floating(self.values[arg]):
            return self._repeated_for_rows(arg)
        return torch.zeros_like(self._repeated_for_rows(arg)) if or_zeros else None

    def _evaluated_difference(self, node: fx.Node, differences: Changes) -> Value:
        """Compute f(x + d) - f(x) for any f.

        If a value has parts other than floating-point tensors, such as attention's output with its
        absent weights, return f(x + d) itself.
        """

        @cache  # attention takes one node three times
        def moved(source: fx.Node) -> object:
            difference = self.node_difference(source, differences)
            if difference is None or not _floating(self.values[source]):
                return self._repeated_for_rows(source) if difference is None else difference
            return pytree.tree_map(lambda x, d: x + d, self.image_value(source), difference)

        after = self.head.apply(node, moved)
        if not _floating(self.values[node]):
            return after
        return pytree.tree_map(lambda now, before: now - before, after, self.image_value(node))

    def _repeated_for_rows(self, node: fx.Node) -> Value:
        """Return an unchanged value, repeated for every row."""
        kind = self.side_kinds.get(node)
        if node.op == "get_attr":
            return self.values[node]
        if kind is not None:
            batch = len(self.values[self.head.activations])
            images = torch.full((len(self.channels),), self.image)
            return select(self.values[node], [kind], images, batch)

        def repeated(leaf: object) -> object:
            if not isinstance(leaf, Tensor):
                return leaf
            return leaf.expand(len(self.channels), *leaf.shape[1:])

        return pytree.tree_map(repeated, self.image_value(node))


def _separable(layer: Convolution) -> bool:
    """Return True if each input channel has kernels of its own, and the padding is a number of
    zeros.
    """
    return (
        layer.groups == 1 and layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
    )


def _columns(maps: Tensor, layer: Convolution) -> Tensor:
    """Unfold maps as torch's `unfold` does, in any number of axes.

    (n, *space) -> (n, kernel positions, positions of the output).
    """
    assert not isinstance(layer.padding, str)  # see `_separable`
    padding = [side for pixels in layer.padding[::-1] for side in (pixels, pixels)]
    windows = functional.pad(maps, padding)
    settings = zip(layer.kernel_size, layer.dilation, layer.stride, strict=True)
    for axis, (kernel, dilation, stride) in enumerate(settings, 1):
        windows = windows.unfold(axis, dilation * (kernel - 1) + 1, stride)[..., ::dilation]
    n = maps.ndim
    kernel_axes = range(n, 2 * n - 1)
    space = range(1, n)
    return windows.permute(0, *kernel_axes, *space).flatten(n).flatten(1, n - 1)


def _is_index(value: object) -> bool:
    """Return True if a value is a tensor of indices or truths, whose "difference" is its value
    after the ablation.
    """
    return isinstance(value, Tensor) and not value.is_floating_point()


def _floating(value: object) -> bool:
    """Return True if a value is made of floating-point tensors only."""
    leaves = pytree.tree_leaves(value)
    return bool(leaves) and all(
        isinstance(leaf, Tensor) and leaf.is_floating_point() for leaf in leaves
    )


def is_plain(node: fx.Node, layer: nn.MultiheadAttention) -> bool:
    """Return True if a call is attention of a query over tokens that are keys and values, without
    mask or additions.

    `attention_difference` holds for such calls only.
    """
    if (
        dict(node.kwargs) != {"need_weights": False}
        or len(node.args) != 3
        or node.args[1] is not node.args[2]
    ):
        return False
    return (
        layer.batch_first
        and layer.in_proj_weight is not None
        and layer.bias_k is None
        and not layer.add_zero_attn
    )


def attention_difference(
    layer: nn.MultiheadAttention, query: Tensor, tokens: Tensor, change: Tensor, direction: Tensor
) -> Tensor:
    """Compute the change of each row's output if an ablation moves all tokens in one direction: (n,
    L, K).

    If token j moves by d_j u, its key moves by W_k u d_j and its value by W_v u d_j. So a query's
    logits move by (q . W_k u) d_j / sqrt(e), where e is the width of an attention head. Its output
    moves by sum_j (p'_j - p_j) v_j + (sum_j p'_j d_j) W_v u, where p and p' are the weights before
    and after. No row needs a product of all its tokens with W_k or W_v.

    Args:
        layer: The attention layer.
        query: The query before the change, (1, L, K).
        tokens: The keys and values before the change, (1, N, K).
        change: d, (n, N), per row.
        direction: u, (n, K), per row: of an ablation, the direction of the channel's feature.
    """
    query_weight, key_weight, value_weight = layer.in_proj_weight.chunk(3)
    biases = (None, None, None) if layer.in_proj_bias is None else layer.in_proj_bias.chunk(3)
    query_bias, key_bias, value_bias = biases
    heads = layer.num_heads

    def by_head(x: Tensor) -> Tensor:
        divided: Tensor = x.unflatten(-1, (heads, -1)).transpose(0, 1)  # (L, K) -> (heads, L, e)
        return divided

    q = by_head(linear(query[0], query_weight, query_bias)) / math.sqrt(layer.head_dim)
    k = by_head(linear(tokens[0], key_weight, key_bias))
    v = by_head(linear(tokens[0], value_weight, value_bias))
    key_steps = linear(direction, key_weight).unflatten(1, (heads, -1))
    value_steps = linear(direction, value_weight).unflatten(1, (heads, -1))
    # (n, heads, L, 1)
    slopes = (q.transpose(0, 1) * key_steps[:, None]).sum(-1).transpose(1, 2)[..., None]
    steps = change[:, None, None]  # (n, 1, 1, N)
    logits = q @ k.mT
    before = logits.softmax(-1)
    after = (logits + slopes * steps).softmax(-1)
    moved = (after - before) @ v + (after * steps).sum(-1, keepdim=True) * value_steps[:, :, None]
    return linear(moved.transpose(1, 2).flatten(2), layer.out_proj.weight)
