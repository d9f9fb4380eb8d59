"""Average drop: Chattopadhay et al., Grad-CAM++, WACV 2018, arXiv:1710.11063, section 4.1."""

from __future__ import annotations

from torch import Tensor

from axiom_bench.cutting.trace import Trace
from axiom_bench.evaluation.queries import MetricGenerator
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.shared.perturbation import (
    Filling,
    kept_pixel_logits,
    probabilities,
    takes_fields,
)


@takes_fields
def average_drop(explanation: Explanation, filling: Filling = Filling()) -> MetricGenerator[Tensor]:
    """Compute max(0, p - p') / p, where p' is the probability given only what the map highlights.

    p is the softmax probability of the class, and p' that of the image h + fill (1 - h). The value
    is a fraction per image, not multiplied by 100. The average is computed for the table.

    Args:
        explanation: The explanation, with its heatmap h (B, H', W') and its trace.
        filling: The replacement of the pixels that h hides; see `shared.perturbation.Filling`. The
            fill "zero" is the published image x map, in normalised pixels.

    Returns:
        The relative drops, (B,) in [0, 1]; lower is better.
    """
    trace = explanation.required_trace
    kept_logits = yield from kept_pixel_logits(explanation, filling)
    return relative_drop(trace, kept_logits)


def relative_drop(trace: Trace, kept_logits: Tensor) -> Tensor:
    """Compute max(0, p - p') / p.

    Args:
        trace: The trace, whose logits give p.
        kept_logits: The logits of the kept images, (B, C), which give p'.

    Returns:
        The relative drops, (B,).
    """
    p = probabilities(trace.logits, trace.targets)
    p_kept = probabilities(kept_logits, trace.targets)
    return (p - p_kept).clamp(min=0) / p
