"""Effective complexity: Nguyen and Martinez, On Quantitative Aspects of Model Interpretability,
arXiv:2007.07584.
"""

from __future__ import annotations

import torch
from torch import Tensor

from axiom_bench.errors import BenchError
from axiom_bench.evaluation.queries import MetricGenerator
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.shared.perturbation import (
    Filling,
    Perturbation,
    probabilities,
    takes_fields,
)
from axiom_bench.metrics.shared.pixel_curves import partly_filled
from axiom_bench.metrics.shared.pixel_order import pixel_ranks


@takes_fields
def effective_complexity(
    explanation: Explanation,
    tolerance: float = 0.1,
    steps: int = 20,
    filling: Filling = Filling("mean"),
) -> MetricGenerator[Tensor]:
    """The smallest fraction of the highest pixels that keeps the prediction -> (B,) in [1/steps,
    1], lower is simpler.

    k* = min k with |p - p'| < tolerance, p' the class's probability where all but the k highest
    pixels are `fill` (see `shared.perturbation.Filling`). k takes `steps` equally spaced values,
    and all pixels always suffice. See `shared.pixel_order` for the order of pixels. Costs steps - 1
    forward passes. Raises BenchError for a tolerance not in [0, 1], steps below 1, or an unknown
    fill.
    """
    if not 0 <= tolerance <= 1:
        raise BenchError(f"The tolerance of a probability lies in [0, 1]; it is {tolerance}.")
    if steps < 1:
        raise BenchError(f"effective_complexity needs at least one step, not steps={steps}.")
    trace = explanation.required_trace
    heatmap = explanation.required_heatmap
    if steps == 1:
        return torch.ones_like(trace.scores, dtype=torch.float64)
    counts = (torch.arange(1, steps, dtype=torch.float64) * heatmap[0].numel() / steps).round()
    perturbation = Perturbation(filling.fill, filling.blur)
    key = ("effective complexity", steps)
    after = yield partly_filled(
        explanation, key, pixel_ranks(explanation), counts, perturbation, inserts=True
    )
    enough = (probabilities(trace.logits, trace.targets)[:, None] - after).abs() < tolerance
    kept = torch.arange(1, steps).to(after) / steps
    return torch.where(enough, kept, 1.0).amin(1).masked_fill(after.isnan().any(1), torch.nan)
