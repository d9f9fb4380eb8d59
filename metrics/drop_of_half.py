"""Average drop and increase with half of the pixels: Wang et al., arXiv:1910.01279.

The paper is "Score-CAM", CVPRW 2020.
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
    """Compute `average_drop` and `increase_in_confidence` with only the highest pixels.

    The model sees the pixels that are highest in the map, unchanged, and the fill in place of the
    rest.

    Args:
        explanation: The explanation, with its heatmap (B, H', W') and its trace.
        fraction: The share of the pixels that the model sees.
        filling: The replacement of the other pixels; see `shared.perturbation.Filling`.

    Returns:
        average_drop_of_half and increase_of_half, each (B,).

    Raises:
        BenchError: If the fraction is outside [0, 1].
    """
    trace = explanation.required_trace
    left_out = 1 - highlighted(explanation, "hard", fraction)
    logits = yield from filling.logits(explanation, ("highest kept", fraction), left_out)
    p = probabilities(trace.logits, trace.targets)
    p_kept = probabilities(logits, trace.targets)
    # A comparison with NaN is False, and would count as no increase.
    rises = (p_kept > p).double().masked_fill(p_kept.isnan(), torch.nan)
    return {"average_drop_of_half": relative_drop(trace, logits), "increase_of_half": rises}
