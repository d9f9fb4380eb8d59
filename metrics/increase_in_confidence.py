"""Increase in confidence: Chattopadhay et al., Grad-CAM++, WACV 2018, arXiv:1710.11063, section
4.1.
"""

from __future__ import annotations

import torch
from torch import Tensor

from axiom_bench.evaluation.queries import MetricGenerator
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.shared.perturbation import (
    Filling,
    logits_of_kept,
    probabilities,
    takes_fields,
)


@takes_fields
def increase_in_confidence(
    explanation: Explanation, filling: Filling = Filling()
) -> MetricGenerator[Tensor]:
    """1 where the class gains when only what the map highlights is seen, p' > p, else 0 -> (B,);
    higher is better.

    p: softmax probability of the class; p': of image h + fill (1 - h). The mean is the published
    rate, not x 100. fill and blur: see `shared.perturbation.Filling`; "zero" is the published image
    x map, in normalised pixels.
    """
    trace = explanation.required_trace
    kept_logits = yield from logits_of_kept(explanation, filling)
    p, p_kept = (probabilities(logits, trace.targets) for logits in (trace.logits, kept_logits))
    return (p_kept > p).double().masked_fill(p_kept.isnan(), torch.nan)
