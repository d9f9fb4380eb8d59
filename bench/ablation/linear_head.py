"""Recognises a head that is global average pooling and one linear layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from bench.ablation.operations import IDENTITY
from bench.division import XY
from bench.errors import BenchError
from bench.sides import select

if TYPE_CHECKING:
    from bench.cut import Cut


def linear_head_weight(cut: Cut, activations: Tensor, sides: Any) -> Tensor:
    """The linear layer's weight (C, K). Raises BenchError for any other head.

    The graph names the last linear layer; that its input is the average of the maps is seen on random activations,
    which no other operation in between would leave equal to their average.
    """
    refusal = BenchError(
        f"The head after {cut.layer!r} is not global average pooling and one linear layer, which `cam` needs; "
        "choose the last layer before the pooling, or another method."
    )
    head = cut.head_graph(activations, sides)
    if head is None or head.scorer is None or head.operation(head.scorer) is not nn.Linear:
        raise refusal
    if any(head.operation(node) not in IDENTITY for node in head.tail):
        raise refusal
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(activations[:1].shape, generator=generator).to(activations)
    one = select(sides, cut.halves.side_kinds, torch.zeros(1, dtype=torch.long), len(activations))
    pooled = head.evaluate(maps, one)[head.scorer.all_input_nodes[0]]
    if pooled.shape != maps.shape[:2] or not torch.allclose(pooled, maps.mean(XY), rtol=1e-4, atol=1e-6):
        raise refusal
    return head.layer(head.scorer).weight.detach()
