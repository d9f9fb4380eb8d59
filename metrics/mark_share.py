"""Share of a spurious mark in what the map shows, beside its share of the true effects."""

from __future__ import annotations

import torch
from torch import Tensor

from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.shared.parts import parts_of, positive_masses, share_of_marks


def mark_share(explanation: Explanation) -> dict[str, Tensor]:
    """sum of h on the mark / sum of h on mark and objects, and its error -> two values (B,) in [0,
    1].

    mark_share is the quotient. mark_share_error: |mark_share - mark_effect_share|, the latter the
    mark's share of the positive effects of mark and objects (see `mark_effect`); lower is better.
    Mass on the ground counts in neither. Both are NaN where the map has no mass on mark and
    objects. Negative evidence is cut off by the heatmap's ReLU. Raises BenchError for an
    explanation without interventions.
    """
    parts = parts_of(explanation)
    effects = explanation.required_trace.part_effects
    share = torch.stack(
        [share_of_marks(*row) for row in zip(parts, positive_masses(explanation), strict=True)]
    )
    true_share = torch.stack([share_of_marks(*row) for row in zip(parts, effects, strict=True)])
    return {"mark_share": share, "mark_share_error": (share - true_share).abs()}
