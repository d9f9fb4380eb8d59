"""The share of a spurious mark in the map, compared with its share of the true effects."""

from __future__ import annotations

import torch
from torch import Tensor

from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.shared.parts import parts_of, positive_masses, share_of_marks


def mark_share(explanation: Explanation) -> dict[str, Tensor]:
    """Compute sum of h on the mark / sum of h on mark and objects, and the share's error.

    mark_share is the quotient. mark_share_error is |mark_share - mark_effect_share|.
    mark_effect_share is the mark's share of the positive effects of mark and objects; see
    `mark_effect`. Mass on the ground counts in neither. The heatmap's ReLU cuts off negative
    evidence.

    Args:
        explanation: The explanation, with its heatmap h (B, H', W') and a trace with interventions.

    Returns:
        mark_share and mark_share_error, each (B,) in [0, 1]; a lower error is better. Both are NaN
        if the map has no mass on mark and objects.

    Raises:
        BenchError: If the explanation has no interventions.
    """
    parts = parts_of(explanation)
    effects = explanation.required_trace.part_effects
    masses = positive_masses(explanation)
    share = torch.stack([share_of_marks(*row) for row in zip(parts, masses, strict=True)])
    true_share = torch.stack([share_of_marks(*row) for row in zip(parts, effects, strict=True)])
    return {"mark_share": share, "mark_share_error": (share - true_share).abs()}
