"""Exact ablation: all K drops S - S_k of a batch, for about the work of the head's first layer."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from axiom_bench.cutting.ablation.brute_force import HeadPass, brute_force_drops
from axiom_bench.cutting.ablation.drops import differences_of_scores
from axiom_bench.cutting.ablation.graph import HeadGraph, Values, head_graph
from axiom_bench.cutting.ablation.linear_head import linear_head_weight
from axiom_bench.cutting.sides import SideKind

__all__ = ["HeadGraph", "Values", "ablation_drops", "brute_force_drops", "head_graph", "linear_head_weight"]


def ablation_drops(
    head: HeadGraph | HeadPass,
    kinds: list[SideKind],
    activations: Tensor,
    sides: Any,
    targets: Tensor,
    memory: int,
    values: Values | None = None,
) -> Tensor:
    """S - S_k for every channel k set to zero: (B, K); exactly 0 for a dead channel (F_k = 0).

    head: its graph where that can be read, else a function that runs a whole pass. memory: bytes to stay within.
    values: those of the graph's nodes, where the trace has kept them.
    """
    if isinstance(head, HeadGraph):
        return differences_of_scores(head, kinds, activations, sides, targets, memory, values)
    return brute_force_drops(head, kinds, activations, sides, targets, memory)
