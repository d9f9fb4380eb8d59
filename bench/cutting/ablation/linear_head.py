"""Recognises a head that is global average pooling and one linear layer."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from axiom_bench.cutting.ablation.graph import HeadGraph
from axiom_bench.cutting.ablation.operations import IDENTITY
from axiom_bench.cutting.division import XY
from axiom_bench.errors import BenchError


def linear_head_weight(head: HeadGraph | None, activations: Tensor, sides: Any) -> Tensor:
    """The linear layer's weight (C, K). Raises BenchError for any other head.

    head: None where it can't be read as a graph. activations: (1, K, H, W), sides: of that image. The graph names the
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
    if pooled.shape != maps.shape[:2] or not torch.allclose(pooled, maps.mean(XY), rtol=1e-4, atol=1e-6):
        raise refusal
    return head.layer(head.class_layer).weight.detach()
