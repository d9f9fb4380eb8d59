"""Confidence drop under perturbation: Fu et al., Axiom-based Grad-CAM, BMVC 2020, arXiv:2008.02312,
Fig. 4(b).
"""

from __future__ import annotations

from torch import Tensor

from axiom_bench.evaluation.queries import MetricGenerator
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.shared.perturbation import (
    Perturbation,
    confidence_in,
    highlighted,
    takes_fields,
)


@takes_fields
def confidence_drop(
    explanation: Explanation,
    mode: str = "soft",
    fraction: float = 0.1,
    perturbation: Perturbation = Perturbation("mean"),
    relative: bool = False,
) -> MetricGenerator[Tensor]:
    """p - p': the drop in confidence when highlighted pixels are replaced -> (B,); higher is
    better, may be negative.

    The perturbed image is image (1 - a) + fill a. mode "soft": a is the heatmap; "hard": 1 for the
    highest `fraction` of the pixels; see `shared.perturbation.highlighted`, and `filling` for fill
    and blur. output "probability": p is the softmax probability, the drop is in [-1, 1]. "logit": p
    is the class's score; see `confidence` there. relative: (p - p') / |p| instead. Raises
    BenchError for another mode, fill or output, and for a fraction outside [0, 1].
    """
    trace = explanation.required_trace
    amount = highlighted(explanation, mode, fraction)
    logits = yield from perturbation.logits(
        explanation, ("confidence drop", mode, fraction), amount
    )
    before, after = (
        confidence_in(trace, each, trace.targets, perturbation.output)
        for each in (trace.logits, logits)
    )
    return (before - after) / before.abs() if relative else before - after
