"""Average gain: Zhang et al., Opti-CAM, CVIU 2024, arXiv:2301.07002, AG."""

from __future__ import annotations

from torch import Tensor

from axiom_bench.evaluation.queries import MetricGenerator
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.shared.perturbation import Filling, logits_of_kept, takes_fields


@takes_fields
def average_gain(explanation: Explanation, filling: Filling = Filling()) -> MetricGenerator[Tensor]:
    """max(0, p' - p) / (1 - p), where p' sees only what the map highlights -> (B,) in [0, 1];
    higher is better.

    p: softmax probability of the class; p': of image h + fill (1 - h). A fraction per image, not x
    100; the counterpart of `average_drop`. fill and blur: see `shared.perturbation.Filling`; "zero"
    is image x map, in normalised pixels.
    """
    trace = explanation.required_trace
    kept_logits = yield from logits_of_kept(explanation, filling)
    missing, missing_kept = (
        _missing(logits, trace.targets) for logits in (trace.logits, kept_logits)
    )
    return (missing - missing_kept).clamp(min=0) / missing


def _missing(logits: Tensor, targets: Tensor) -> Tensor:
    """1 - p as the sum of all other probabilities, which keeps its digits where p is nearly 1: (B,
    C), (B,) -> (B,).
    """
    return logits.double().softmax(1).scatter(1, targets[:, None], 0).sum(1)
