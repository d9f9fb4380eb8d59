"""Confidence drop under perturbation: Fu et al., BMVC 2020, arXiv:2008.02312, Fig. 4(b).

The paper is "Axiom-based Grad-CAM".
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
    """Compute p - p', the drop in confidence when highlighted pixels are replaced.

    The perturbed image is image (1 - a) + fill a.

    Args:
        explanation: The explanation, with its heatmap (B, H', W') and its trace.
        mode: "soft" if a is the heatmap. "hard" if a is 1 for the highest `fraction` of the pixels,
            otherwise 0; see `shared.perturbation.highlighted`.
        fraction: The share of the pixels that the mode "hard" replaces, in [0, 1].
        perturbation: The replacement and the output; see `shared.perturbation.Perturbation`. With
            the output "probability", p is the softmax probability, so that the drop is in [-1, 1].
            With "logit", p is the class's score.
        relative: If True, compute (p - p') / |p| instead.

    Returns:
        The drops, (B,); higher is better. They may be negative.

    Raises:
        BenchError: If the mode, fill or output is unknown, or the fraction is outside [0, 1].
    """
    trace = explanation.required_trace
    amount = highlighted(explanation, mode, fraction)
    logits = yield from perturbation.logits(
        explanation, ("confidence drop", mode, fraction), amount
    )
    before = confidence_in(trace, trace.logits, trace.targets, perturbation.output)
    after = confidence_in(trace, logits, trace.targets, perturbation.output)
    # A logit can be negative, so the divisor is a magnitude.
    return (before - after) / before.abs() if relative else before - after
