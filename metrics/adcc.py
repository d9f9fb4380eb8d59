"""ADCC: Poppi et al., CVPRW 2021, arXiv:2104.10252.

The paper is "Revisiting the Evaluation of Class Activation Mapping".
"""

from __future__ import annotations

import torch
from torch import Tensor

from axiom_bench.cutting.numerics import axes
from axiom_bench.evaluation.queries import MetricGenerator
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.average_drop import relative_drop
from axiom_bench.metrics.shared.perturbation import Filling, kept_map, takes_fields
from axiom_bench.metrics.shared.similarity import pearson


@takes_fields
def adcc(
    explanation: Explanation, filling: Filling = Filling()
) -> MetricGenerator[dict[str, Tensor]]:
    """Compute ADCC, the harmonic mean of coherency, 1 - complexity and 1 - average drop.

    Coherency is (1 + Pearson's correlation of h and h') / 2. Here h' is the same method's map of
    the image that h keeps, image h + fill (1 - h). Complexity is the mean of h, its L1 norm per
    pixel. ADCC is 0 if one of the three terms is 0. Coherency is NaN if h or h' is constant.

    Args:
        explanation: The explanation, with its heatmap h (B, H', W') and its trace.
        filling: The replacement of the pixels that h hides; see `shared.perturbation.Filling`. The
            fill "zero" is the published image x map, in normalised pixels.

    Returns:
        adcc, coherency and complexity, each (B,) in [0, 1]. Higher is better, except for
        complexity. A value is infinite if a map or the model's answer isn't finite.
    """
    trace = explanation.required_trace
    heatmap = explanation.required_heatmap
    kept, logits = yield kept_map(explanation, filling)
    coherency = (1 + pearson(heatmap, kept)) / 2
    complexity = heatmap.double().mean(axes(heatmap, 1))
    drop = relative_drop(trace, logits)
    harmonic = 3 / (1 / coherency + 1 / (1 - complexity) + 1 / (1 - drop))
    # A term of 0 makes the sum of reciprocals infinite, so ADCC is 0. NaN means a constant map, so
    # other values that aren't finite become infinite.
    has_map = kept.flatten(1).isfinite().all(1)
    is_finite = has_map & drop.isfinite()
    return {
        "adcc": harmonic.masked_fill(~is_finite, torch.inf),
        "coherency": coherency.masked_fill(~has_map, torch.inf),
        "complexity": complexity,
    }
