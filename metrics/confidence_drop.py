"""Confidence drop under perturbation: Fu et al., Axiom-based Grad-CAM, BMVC 2020, arXiv:2008.02312, Fig. 4(b)."""

from __future__ import annotations

from torch import Tensor

from axiom_bench.evaluation.queries import MetricGenerator, PerturbedImages
from axiom_bench.explanation.explanation import Explanation, given
from axiom_bench.metrics.shared.perturbation import Fill, blended, confidence_in, highlighted


def confidence_drop(
    explanation: Explanation,
    mode: str = "soft",
    fraction: float = 0.1,
    fill: Fill = "mean",
    blur: float = 0.05,
    output: str = "probability",
    relative: bool = False,
) -> MetricGenerator[Tensor]:
    """p - p': the drop in confidence when highlighted pixels are replaced -> (B,); higher is better, may be negative.

    The perturbed image is image (1 - a) + fill a. mode "soft": a is the heatmap; "hard": 1 for the highest `fraction`
    of the pixels; see `shared.perturbation.highlighted`, and `filling` for fill and blur. output "probability": p is
    the softmax probability, the drop is in [-1, 1]. "logit": p is the class's score; see `confidence` there.
    relative: (p - p') / |p| instead.
    Raises BenchError for another mode, fill or output, and for a fraction outside [0, 1].
    """
    trace = given(explanation.trace, "trace")
    images, amount = given(explanation.images, "images"), highlighted(explanation, mode, fraction)

    def perturbed(rows: slice, copies: slice) -> Tensor:
        return blended(images[rows], amount[rows], fill, blur)[:, None]

    logits = yield PerturbedImages(("confidence drop", mode, fraction, str(fill), blur), 1, perturbed)
    before, after = (confidence_in(trace, each, trace.targets, output) for each in (trace.logits, logits[:, 0]))
    return (before - after) / before.abs() if relative else before - after
