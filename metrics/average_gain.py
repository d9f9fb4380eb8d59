"""Average gain: Zhang et al., Opti-CAM, CVIU 2024, arXiv:2301.07002, AG."""

from __future__ import annotations

from torch import Tensor

from axiom_bench.evaluation.queries import MetricGenerator
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.shared.perturbation import Filling, kept_pixel_logits, takes_fields


@takes_fields
def average_gain(explanation: Explanation, filling: Filling = Filling()) -> MetricGenerator[Tensor]:
    """Compute max(0, p' - p) / (1 - p), where p' sees only what the map highlights.

    p is the softmax probability of the class, and p' that of the image h + fill (1 - h). The metric
    is the counterpart of `average_drop`. The value is a fraction per image, not multiplied by 100.

    Args:
        explanation: The explanation, with its heatmap h (B, H', W') and its trace.
        filling: The replacement of the pixels that h hides; see `shared.perturbation.Filling`. The
            fill "zero" is image x map, in normalised pixels.

    Returns:
        The relative gains, (B,) in [0, 1]; higher is better.
    """
    trace = explanation.required_trace
    kept_logits = yield from kept_pixel_logits(explanation, filling)
    missing = _missing(trace.logits, trace.targets)
    missing_kept = _missing(kept_logits, trace.targets)
    return (missing - missing_kept).clamp(min=0) / missing


def _missing(logits: Tensor, targets: Tensor) -> Tensor:
    """Compute 1 - p as the sum of all other probabilities, which stays precise if p is nearly 1."""
    return logits.double().softmax(1).scatter(1, targets[:, None], 0).sum(1)
