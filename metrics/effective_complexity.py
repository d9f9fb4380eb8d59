"""Effective complexity: Nguyen and Martinez, 2020, arXiv:2007.07584.

The paper is "On Quantitative Aspects of Model Interpretability".
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
    """Find the smallest fraction of the highest pixels that keeps the prediction.

    k* = min k with |p - p'| < tolerance. p' is the class's probability if all but the k highest
    pixels are filled. k takes `steps` equally spaced values, and all pixels always suffice. See
    `shared.pixel_order` for the order of pixels. The metric costs steps - 1 forward passes.

    Args:
        explanation: The explanation, with its heatmap (B, H', W') and its trace.
        tolerance: The difference of the probability that keeps the prediction, in [0, 1].
        steps: The number of values of k.
        filling: The replacement of pixels; see `shared.perturbation.Filling`.

    Returns:
        The fractions, (B,) in [1/steps, 1]; a lower value is simpler.

    Raises:
        BenchError: If the tolerance isn't in [0, 1], there is no step, or the fill is unknown.
    """
    if not 0 <= tolerance <= 1:
        raise BenchError(f"The tolerance of a probability lies in [0, 1]; it is {tolerance}.")
    if steps < 1:
        raise BenchError(f"effective_complexity needs at least one step, not steps={steps}.")
    trace = explanation.required_trace
    heatmap = explanation.required_heatmap
    # All pixels always keep the prediction, so the last step needs no pass.
    if steps == 1:
        return torch.ones_like(trace.scores, dtype=torch.float64)
    numbers = torch.arange(1, steps, dtype=torch.float64)
    counts = (numbers * heatmap[0].numel() / steps).round()
    perturbation = Perturbation(filling.fill, filling.blur)
    key = ("effective complexity", steps)
    after = yield partly_filled(
        explanation, key, pixel_ranks(explanation), counts, perturbation, inserts=True
    )
    before = probabilities(trace.logits, trace.targets)[:, None]
    is_enough = (before - after).abs() < tolerance
    kept = torch.arange(1, steps).to(after) / steps
    smallest = torch.where(is_enough, kept, 1.0).amin(1)
    return smallest.masked_fill(after.isnan().any(1), torch.nan)
