"""Effective complexity: Nguyen and Martinez, On Quantitative Aspects of Model Interpretability, arXiv:2007.07584."""

from __future__ import annotations

import torch
from torch import Tensor

from bench.errors import BenchError
from bench.explanation import Explanation
from bench.preconditions import given
from metrics.perturbation import Fill, filling, probabilities
from metrics.perturbed_passes import perturbed_scores
from metrics.pixel_curves import pixel_ranks


def effective_complexity(
    explanation: Explanation, tolerance: float = 0.1, steps: int = 20, fill: Fill = "mean", blur: float = 0.05
) -> Tensor:
    """The smallest fraction of the highest pixels that keeps the prediction -> (B,) in [1/steps, 1], lower is simpler.

    k* = min k with E[loss(y, f) | the k highest pixels stay] < tolerance. Here the loss is |p - p'|, p' the probability
    when all other pixels are `fill` (see `metrics.perturbation.filling`), one fixed value where the paper takes the
    expectation over the data; k goes in `steps` equal steps, and all pixels always suffice. Pixels are ordered on the
    map rounded to 1e-6, ties to the first. Costs steps - 1 forward passes.
    Raises BenchError for a tolerance not in [0, 1], less than one step, or another fill.
    """
    if not 0 <= tolerance <= 1:
        raise BenchError(f"The tolerance of a probability lies in [0, 1]; it is {tolerance}.")
    if steps < 1:
        raise BenchError(f"effective_complexity needs at least one step, not steps={steps}.")
    trace, images = given(explanation.trace, "trace"), given(explanation.images, "images")
    ranks = pixel_ranks(given(explanation.heatmap, "heatmap"))
    kept = torch.arange(1, steps, dtype=torch.float64, device=ranks.device)
    counts = (kept * ranks[0].numel() / steps).round()
    filled = filling(images, fill, blur).expand_as(images)

    def perturbed(some: slice, copies: slice) -> Tensor:
        shown = ranks[some, None, None] < counts[copies, None, None, None]
        return torch.where(shown, images[some, None], filled[some, None])

    if steps == 1:
        return torch.ones_like(trace.scores, dtype=torch.float64)
    before, after = probabilities(trace.logits, trace.targets), perturbed_scores(trace, steps - 1, perturbed)
    enough = (before[:, None] - after).abs() < tolerance
    return torch.where(enough, kept / steps, 1.0).amin(1).masked_fill(after.isnan().any(1), torch.nan)
