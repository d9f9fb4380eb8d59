"""Reads a head once: its graph, checked on one image, and the layer whose rows are the classes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx, nn

from axiom_bench.cutting.ablation.graph import HeadGraph, Values, first_input
from axiom_bench.cutting.ablation.one_token import for_one_token
from axiom_bench.cutting.ablation.operations import (
    AVERAGE_POOL,
    CLAMP,
    ELEMENTWISE,
    IDENTITY,
    MEAN,
    RESHAPE,
    spatial_mean,
)
from axiom_bench.cutting.rounding import equal_up_to_rounding
from axiom_bench.cutting.sides import SideKind, select


def read_head(module: fx.GraphModule, kinds: list[SideKind], activations: Tensor, sides: Any) -> HeadGraph | None:
    """The head's graph, checked with one image; None where a value doesn't keep its images in its first dimension.

    activations: (1, K, H, W); sides: of that image.
    """
    bare = HeadGraph(module, None, (), 0, 0)
    rows = [torch.zeros(count, dtype=torch.long, device=activations.device) for count in (2, 3)]
    batches = [(activations[index], select(sides, kinds, index, 1)) for index in rows]
    expected = module(activations.clone(), *(side.clone() if isinstance(side, Tensor) else side for side in sides))
    bare = HeadGraph(for_one_token(bare, bare.evaluate(*batches[0])), None, (), 0, 0)
    two, three = (bare.evaluate(*batch) for batch in batches)
    floats = [node for node, value in two.items() if _floating(value) and node.op.startswith("call")]
    if any(two[node].shape[0] != 2 or three[node].shape != (3, *two[node].shape[1:]) for node in floats):
        return None
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


def _floating(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()
