"""ADCC: Poppi et al., Revisiting the Evaluation of Class Activation Mapping, CVPRW 2021,
arXiv:2104.10252.
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
    """{adcc, coherency, complexity} -> (B,) each, in [0, 1]; higher is better, of complexity lower.

    coherency: (1 + Pearson's correlation of h and h') / 2, h' the same method's map of what h
    keeps, image h + fill (1 - h). complexity: the mean of h, its L1 norm a pixel. adcc: the
    harmonic mean of coherency, 1 - complexity and 1 - average drop, 0 where one of them is.
    Coherency is NaN where h or h' is the same everywhere. fill and blur: see
    `shared.perturbation.Filling`; "zero" is the published image x map, in normalised pixels.
    """
    trace = explanation.required_trace
    heatmap = explanation.required_heatmap
    kept, logits = yield kept_map(explanation, filling)
    coherency = (1 + pearson(heatmap, kept)) / 2
    complexity = heatmap.double().mean(axes(heatmap, 1))
    drop = relative_drop(trace, logits)
    harmonic = 3 / (1 / coherency + 1 / (1 - complexity) + 1 / (1 - drop))
    # Infinite where a map or the model's answer isn't finite, since NaN means a constant map.
    has_map = kept.flatten(1).isfinite().all(1)
    return {
        "adcc": harmonic.masked_fill(~(has_map & drop.isfinite()), torch.inf),
        "coherency": coherency.masked_fill(~has_map, torch.inf),
        "complexity": complexity,
    }
