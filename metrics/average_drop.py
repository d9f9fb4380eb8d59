"""Average drop: Chattopadhay et al., Grad-CAM++, WACV 2018, arXiv:1710.11063, section 4.1."""

from __future__ import annotations

from torch import Tensor

from axiom_bench.cutting.trace import Trace
from axiom_bench.evaluation.queries import MetricGenerator
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.shared.perturbation import (
    Filling,
    logits_of_kept,
    probabilities,
    takes_fields,
)


@takes_fields
def average_drop(explanation: Explanation, filling: Filling = Filling()) -> MetricGenerator[Tensor]:
    """max(0, p - p') / p, where p' sees only what the map highlights: image h + fill (1 - h) ->
    (B,) in [0, 1].

    p: softmax probability of the class. Lower is better. A fraction per image, not x 100; the
    average is the table's. fill and blur: see `shared.perturbation.Filling`; "zero" is the
    published image x map, in normalised pixels.
    """
    trace = explanation.required_trace
    kept_logits = yield from logits_of_kept(explanation, filling)
    return relative_drop(trace, kept_logits)


def relative_drop(trace: Trace, kept_logits: Tensor) -> Tensor:
    """max(0, p - p') / p -> (B,), p' from the logits (B, C) of the kept images."""
    p, p_kept = (probabilities(logits, trace.targets) for logits in (trace.logits, kept_logits))
    return (p - p_kept).clamp(min=0) / p
