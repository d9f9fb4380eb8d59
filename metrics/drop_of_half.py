"""Average drop and increase with half of the pixels: Wang et al., Score-CAM, CVPRW 2020,
arXiv:1910.01279.
"""

from __future__ import annotations

import torch
from torch import Tensor

from axiom_bench.evaluation.queries import MetricGenerator
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.average_drop import relative_drop
from axiom_bench.metrics.shared.perturbation import (
    Filling,
    highlighted,
    probabilities,
    takes_fields,
)


@takes_fields
def drop_of_half(
    explanation: Explanation, fraction: float = 0.5, filling: Filling = Filling()
) -> MetricGenerator[dict[str, Tensor]]:
    """{average_drop_of_half, increase_of_half} -> (B,) each: `average_drop` and
    `increase_in_confidence` of the highest pixels alone.

    The model sees the `fraction` of the pixels that the map has highest, unchanged, and fill in the
    place of the rest. fill and blur: see `shared.perturbation.Filling`. Raises BenchError for a
    fraction outside [0, 1].
    """
    trace = explanation.required_trace
    left_out = 1 - highlighted(explanation, "hard", fraction)
    logits = yield from filling.logits(explanation, ("highest kept", fraction), left_out)
    p, p_kept = (probabilities(each, trace.targets) for each in (trace.logits, logits))
    rises = (p_kept > p).double().masked_fill(p_kept.isnan(), torch.nan)
    return {"average_drop_of_half": relative_drop(trace, logits), "increase_of_half": rises}
