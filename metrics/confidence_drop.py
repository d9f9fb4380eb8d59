"""Confidence drop under perturbation: Fu et al., Axiom-based Grad-CAM, BMVC 2020, arXiv:2008.02312, Fig. 4(b)."""

from __future__ import annotations

from torch import Tensor

from axiom_bench.evaluation.queries import Copies
from axiom_bench.explanation.explanation import Explanation, given
from axiom_bench.metrics.shared.perturbation import Fill, confidence_in, one_copy, perturb


def confidence_drop(
    explanation: Explanation,
    mode: str = "soft",
    fraction: float = 0.1,
    fill: Fill = "mean",
    blur: float = 0.05,
    output: str = "probability",
    relative: bool = False,
) -> Tensor:
    """p - p': what the class loses when the highlighted pixels are replaced -> (B,), higher is better, may be negative.

    mode, fraction, fill and blur: see `shared.perturbation.perturb`. output "probability": p is the softmax
    probability, the drop is in [-1, 1]. "logit": p is the class's score; see `shared.perturbation.confidence`.
    relative: (p - p') / |p| instead.
    Raises BenchError for another output.
    """
    trace = given(explanation.trace, "trace")
    perturbed = perturbed_copies(explanation, mode, fraction, fill, blur).answer()[:, 0]
    before, after = (confidence_in(trace, logits, trace.targets, output) for logits in (trace.logits, perturbed))
    return (before - after) / before.abs() if relative else before - after


def perturbed_copies(explanation: Explanation, mode: str, fraction: float, fill: Fill, blur: float) -> Copies:
    """The model's logits for the perturbed images, (B, 1, C). Parameters: see `confidence_drop`."""
    images, heatmap = given(explanation.images, "images"), given(explanation.heatmap, "heatmap")
    key = ("perturbed", mode, fraction, str(fill), blur)
    return one_copy(explanation, key, lambda: perturb(images, heatmap, mode, fraction, fill, blur))
