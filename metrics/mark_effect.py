"""The true effect of a spurious mark on the explained score.

The effect is found by drawing the image again without the mark.
"""

from __future__ import annotations

import torch
from torch import Tensor

from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.shared.parts import mark_indices, parts_of, share_of_marks


def mark_effect(explanation: Explanation) -> dict[str, Tensor]:
    """Compute S - S of the image drawn again without its mark.

    mark_effect is in the units of the score, summed over several marks. It is positive if the mark
    raises the score of the explained class. mark_effect_share is the marks' share of the
    positive effects of marks and objects, each removed by itself. Both are properties of the
    network, not of a method.

    Args:
        explanation: The explanation, with a trace with interventions.

    Returns:
        mark_effect, (B,); and mark_effect_share, (B,) in [0, 1], which is NaN if no effect is
        positive.

    Raises:
        BenchError: If the explanation has no interventions.
    """
    part_effects = explanation.required_trace.part_effects
    effects_of_marks = []
    shares = []
    for parts, effects in zip(parts_of(explanation), part_effects, strict=True):
        effects_of_marks.append(effects.double().cpu()[mark_indices(parts)].sum())
        shares.append(share_of_marks(parts, effects))
    return {
        "mark_effect": torch.stack(effects_of_marks),
        "mark_effect_share": torch.stack(shares),
    }
