"""True effect of a spurious mark on the explained score, by drawing the image again without it."""

from __future__ import annotations

import torch
from torch import Tensor

from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.shared.parts import marks, parts_of, share_of_marks


def mark_effect(explanation: Explanation) -> dict[str, Tensor]:
    """S - S of the image drawn again without its mark -> two values (B,).

    mark_effect: in the units of the score, summed over several marks; positive where the mark
    speaks for the explained class. mark_effect_share: of the sum of the positive effects of marks
    and objects, each alone taken away; in [0, 1], NaN where none is positive. A property of the
    network, not of a method. Raises BenchError for an explanation without interventions.
    """
    rows = list(zip(parts_of(explanation), explanation.required_trace.part_effects, strict=True))
    return {
        "mark_effect": torch.stack(
            [effects.double().cpu()[marks(parts)].sum() for parts, effects in rows]
        ),
        "mark_effect_share": torch.stack([share_of_marks(*row) for row in rows]),
    }
