"""Effective complexity: Nguyen and Martinez, On Quantitative Aspects of Model Interpretability, arXiv:2007.07584."""

from __future__ import annotations

import torch
from torch import Tensor

from bench.errors import BenchError
from bench.explanation import Explanation
from bench.preconditions import given
from metrics.perturbation import logits_of, perturb, probabilities
from metrics.rounding import rounded


def effective_complexity(
    explanation: Explanation, tolerance: float = 0.1, steps: int = 20, fill: str = "mean", blur: float = 0.05
) -> Tensor:
    """The smallest fraction of the highest pixels that keeps the prediction -> (B,) in [1/steps, 1], lower is simpler.

    k* = min k with E[loss(y, f) | the k highest pixels stay] < tolerance. Here the loss is |p - p'|, p' the probability
    when all other pixels are `fill` (see `metrics.perturbation.perturb`), one fixed value where the paper takes the
    expectation over the data; k goes in `steps` equal steps, and all pixels always suffice. Pixels are ordered on the
    map rounded to 1e-6, ties to the first. Costs steps - 1 forward passes.
    Raises BenchError for less than one step, or another fill.
    """
    if steps < 1:
        raise BenchError(f"effective_complexity needs at least one step, not steps={steps}.")
    trace, images = given(explanation.trace, "trace"), given(explanation.images, "images")
    maps = rounded(given(explanation.heatmap, "heatmap"))
    ranks = maps.flatten(1).sort(dim=1, descending=True, stable=True).indices.argsort(1).view_as(maps)  # 0: highest
    before = probabilities(trace.logits, trace.targets)
    smallest = torch.ones_like(before)
    for step in range(steps - 1, 0, -1):
        dropped = (ranks >= round(step / steps * maps[0].numel())).to(images.dtype)
        after = probabilities(logits_of(trace, perturb(images, dropped, fill=fill, blur=blur)), trace.targets)
        smallest = torch.where((before - after).abs() < tolerance, step / steps, smallest)
    return smallest
