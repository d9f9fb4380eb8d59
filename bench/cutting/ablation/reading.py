"""Read a head once: its graph checked on one image, with single tokens taken early, and the role of
its last layer.

`SplitModel.head_graph` calls `read_head` once per cut. Each trace then computes its drops with the
result.
"""

from __future__ import annotations

import operator
from dataclasses import replace

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from axiom_bench.cutting.ablation.few_tokens import few_tokens
from axiom_bench.cutting.ablation.graph import (
    AVERAGE_POOL,
    CLAMP,
    CONVOLUTION,
    ELEMENTWISE,
    IDENTITY,
    MEAN,
    RESHAPE,
    HeadGraph,
    Values,
    argument,
    first_input,
    permuted_axes,
    spatial_mean,
)
from axiom_bench.cutting.graph_parts import Sides
from axiom_bench.cutting.numerics import axes
from axiom_bench.cutting.passes import equal_up_to_rounding
from axiom_bench.cutting.trunk_and_head import SideKind, select
from axiom_bench.errors import BenchError

NUMBERS = (int, float, str, torch.dtype, torch.device, type(None))
POWERS = {torch.pow, operator.pow, "pow"}
STEEP = {
    torch.sqrt,
    torch.rsqrt,
    torch.log,
    torch.log2,
    torch.log10,
    "sqrt",
    "rsqrt",
    "log",
    "log2",
    "log10",
}


def read_head(
    module: fx.GraphModule, kinds: list[SideKind], activations: Tensor, sides: Sides
) -> HeadGraph | None:
    """Return the head's graph, checked with one image, or None if only whole passes of the head are
    safe.

    They are if a value doesn't keep its images in its first dimension, even a single image. They
    also are if an operation is steep at 0. There x + d has the rounding of x, which a logarithm
    turns into any number.

    Args:
        module: The head's graph.
        kinds: The kinds of the side values.
        activations: The activations of one image, (1, K, *space).
        sides: The side values of that image.
    """
    bare = HeadGraph(images_first(module))
    rows = [torch.zeros(count, dtype=torch.long, device=activations.device) for count in (2, 3)]
    batches = [(activations[index], select(sides, kinds, index, 1)) for index in rows]
    copied_sides = [side.clone() if isinstance(side, Tensor) else side for side in sides]
    expected = module(activations.clone(), *copied_sides)
    two = bare.evaluate(*batches[0])
    has_tokens = any(isinstance(value, Tensor) and value.ndim == 3 for value in two.values())
    # If the head's views are reordered, its graph must keep all tokens, to give the bits of the
    # module itself.
    early = (
        few_tokens(bare, two, through_attention=False)
        if has_tokens and bare.module is module
        else None
    )
    if early is not None:
        # The trace computes its logits with this graph too, so that these are the published logits.
        bare = HeadGraph(early.graph[0])
        two = bare.evaluate(*batches[0])
    three = bare.evaluate(*batches[1])
    calls = [node for node in two if node.op.startswith("call")]
    if not all(_has_rows(two[node], three[node]) for node in calls):
        return None
    if any(_is_steep(bare, node) or _loses_one_row(node) for node in calls):
        return None
    if not equal_up_to_rounding(two[bare.logits][:1], expected):
        return None
    few = (
        few_tokens(bare, two, through_attention=True) if has_tokens and bare.has_attention else None
    )
    if few is not None:
        rows_graph = HeadGraph(few.graph[0])
        values = rows_graph.evaluate(*batches[0])
        if equal_up_to_rounding(values[rows_graph.logits][:1], expected):
            return replace(_read(bare, two), few=few, rows=_read(rows_graph, values))
    return _read(bare, two)


def _read(bare: HeadGraph, two: Values) -> HeadGraph:
    """Return the graph with its last layer and the sizes of its values, which are of two images."""
    sizes = []
    for node, value in two.items():
        is_computed = node is bare.activations or node.op.startswith("call")
        if is_computed and isinstance(value, Tensor) and value.is_floating_point():
            sizes.append(value.numel() * value.element_size() // 2)
    class_layer, tail = _class_layer(bare, two)
    return HeadGraph(
        module=bare.module,
        class_layer=class_layer,
        tail=tail,
        bytes_per_image=sum(sizes),
        widest=max(sizes),
    )


def images_first(module: fx.GraphModule) -> fx.GraphModule:
    """Return the same head, in which queries, keys and values are selected before one of their axes
    becomes the first.

    `x.permute(2, 0, ...)[i]` is the same view as `x.select(2, i).permute(0, ...)`, which has the
    images first.
    """
    if not any(dims and dims[0] != 0 for dims in map(permuted_axes, module.graph.nodes)):
        return module
    graph = fx.Graph()
    graph.output(graph.graph_copy(module.graph, {}))
    for node in list(graph.nodes):
        dims = permuted_axes(node)
        if not dims or dims[0] == 0 or any(dim < 0 for dim in dims):
            continue
        # The values that are taken out of the permuted one, one by one or by unbind.
        parts: list[fx.Node] = []
        for user in node.users:
            parts += user.users if _is_unbind(user) else [user]
        if not all(
            part.target is operator.getitem and isinstance(part.args[1], int) for part in parts
        ):
            continue
        order = [dim - (dim > dims[0]) for dim in dims[1:]]
        for part in parts:
            with graph.inserting_before(part):
                one = graph.call_method("select", (node.args[0], dims[0], part.args[1]))
                part.replace_all_uses_with(graph.call_method("permute", (one, *order)))
            graph.erase_node(part)
        for user in [*node.users, node]:
            graph.erase_node(user)
    return fx.GraphModule(module, graph, "Head")


def _is_unbind(node: fx.Node) -> bool:
    return node.target in ("unbind", torch.unbind) and argument(node, 1, "dim", 0) == 0


def _class_layer(head: HeadGraph, values: Values) -> tuple[fx.Node | None, tuple[fx.Node, ...]]:
    """Walk back from the logits through operations that keep classes apart, to the layer whose rows
    are the classes.

    Only the explained class's row of this layer is needed for its score.
    """
    tail: list[fx.Node] = []
    node = head.logits
    while node.op != "placeholder":
        name = head.operation(node)
        if (name is nn.Linear and values[node].ndim == 2) or (
            name in CONVOLUTION and head.layer(node).groups == 1
        ):
            return node, tuple(reversed(tail))
        source = first_input(node)
        if source is None or not _keeps_classes_apart(head, node, source, values):
            break
        tail.append(node)
        node = source
    return None, ()


def _keeps_classes_apart(head: HeadGraph, node: fx.Node, source: fx.Node, values: Values) -> bool:
    """Return True if each class of a node's value depends only on the same class of its source."""
    name = head.operation(node)
    if len(source.users) > 1:
        return False
    if name in RESHAPE:
        source_shape: torch.Size = values[source].shape
        node_shape: torch.Size = values[node].shape
        return source_shape[2:].numel() == 1 and node_shape == source_shape[:2]
    if name in MEAN and spatial_mean(node, values[source]):
        return True
    return name in IDENTITY | AVERAGE_POOL | ELEMENTWISE | CLAMP.keys()


def _has_rows(two: object, three: object) -> bool:
    """Return True if every tensor in a value of two and of three images has a row per image, unlike
    an LSTM's state.

    Ablations of one image are rows of a batch, so each row must stay apart from the others.
    """
    for first, second in zip(pytree.tree_leaves(two), pytree.tree_leaves(three), strict=True):
        if isinstance(first, NUMBERS):
            continue
        if not isinstance(first, Tensor) or first.shape[:1] != (2,):
            return False
        if second.shape != (3, *first.shape[1:]):
            return False
    return True


def _loses_one_row(node: fx.Node) -> bool:
    """Return True if a node squeezes every dimension of size 1, including the images' if there is
    one image.

    A head with such a node works for many rows, and fails for one.
    """
    return node.target in ("squeeze", torch.squeeze) and len((*node.args, *node.kwargs)) == 1


def _is_steep(head: HeadGraph, node: fx.Node) -> bool:
    """Return True if an operation is steep at 0, such as a logarithm or a root.

    The rounding of x + d becomes an error of any size there.
    """
    name = head.operation(node)
    if name not in POWERS:
        return name in STEEP
    exponent = node.kwargs.get("exponent", node.args[-1])
    return not (isinstance(exponent, int | float) and exponent in (1, 2, 3, 4))


def linear_head_weight(head: HeadGraph | None, activations: Tensor, sides: Sides) -> Tensor:
    """Return the linear layer's weight (C, K). Raise BenchError for any other head than pooling and
    a linear layer.

    The graph has the last linear layer. Random activations show that its input is the average of
    the maps: no other operation in between would leave them equal to their average.

    Args:
        head: The head's graph; None if it can't be read.
        activations: The activations of one image, (1, K, *space).
        sides: The side values of that image.
    """
    refusal = BenchError(
        "The head after the target layer is not global average pooling and one linear layer, "
        "which `cam` needs; choose the last layer before the pooling, or another method."
    )
    if head is None or head.class_layer is None:
        raise refusal
    if head.operation(head.class_layer) is not nn.Linear:
        raise refusal
    if any(head.operation(node) not in IDENTITY for node in head.tail):
        raise refusal
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(activations.shape, generator=generator).to(activations, non_blocking=True)
    # The trace's own maps may be constant, and their average then equals their maximum.
    pooled = head.evaluate(maps, sides)[head.class_layer.all_input_nodes[0]]
    means = maps.mean(axes(maps))
    if pooled.shape != means.shape or not torch.allclose(pooled, means, rtol=1e-4, atol=1e-6):
        raise refusal
    weight: Tensor = head.layer(head.class_layer).weight.detach()
    return weight
