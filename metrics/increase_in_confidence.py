"""Increase in confidence: Chattopadhay et al., WACV 2018, arXiv:1710.11063, section 4.1.

The paper is "Grad-CAM++".
"""

from __future__ import annotations

import torch
from torch import Tensor

from axiom_bench.evaluation.queries import MetricGenerator
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.shared.perturbation import (
    Filling,
    kept_pixel_logits,
    probabilities,
    takes_fields,
)


@takes_fields
def increase_in_confidence(
    explanation: Explanation, filling: Filling = Filling()
) -> MetricGenerator[Tensor]:
    """Return 1 if p' > p, so that the class gains when only what the map highlights is seen.

    p is the softmax probability of the class, and p' that of the image h + fill (1 - h). The mean
    is the published rate, not multiplied by 100.

    Args:
        explanation: The explanation, with its heatmap h (B, H', W') and its trace.
        filling: The replacement of the pixels that h hides; see `shared.perturbation.Filling`. The
            fill "zero" is the published image x map, in normalised pixels.

    Returns:
        1 or 0, (B,); higher is better.
    """
    trace = explanation.required_trace
    kept_logits = yield from kept_pixel_logits(explanation, filling)
    p = probabilities(trace.logits, trace.targets)
    p_kept = probabilities(kept_logits, trace.targets)
    return (p_kept > p).double().masked_fill(p_kept.isnan(), torch.nan)
