"""ROAD, remove and debias: Rong et al., A Consistent and Efficient Evaluation Strategy for Attribution Methods, ICML
2022, arXiv:2202.00449.

Pixels are removed by noisy linear imputation, most relevant first (MoRF) or least relevant first (LeRF).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import BenchError
from axiom_bench.evaluation.queries import MetricGenerator, PerturbedImages, keep_logits
from axiom_bench.explanation.explanation import Curve, Explanation
from axiom_bench.metrics.shared.perturbation import numbers_of_first, scoring
from axiom_bench.metrics.shared.pixel_order import pixel_ranks

FRACTIONS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 0.9)
FRACTIONS_COMBINED = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


def road_morf(
    explanation: Explanation,
    fractions: Sequence[float] = FRACTIONS,
    noise: float = 0.01,
    output: str = "accuracy",
    seed: int = 0,
) -> MetricGenerator[dict[str, Tensor | Curve]]:
    """Mean accuracy over fractions of imputed pixels, most relevant first -> (B,); lower is better.

    {road_morf: (B,), morf: the curve, (B, fractions)}. fractions: of the pixels, between 0 and 1. noise: standard
    deviation of the normal noise on imputed pixels, in the network's input, drawn from `seed` and the image.
    output: "accuracy" as published, 1 where the class is still predicted; or "probability", "logit". Raises
    BenchError for a fraction that isn't between 0 and 1, and for noise that is negative or infinite.
    """
    points = yield imputed_images(explanation, "highest", fractions, noise, output, seed)
    curve = Curve(points, fractions, "ROAD, most relevant first", "fraction of pixels imputed", output)
    return {"road_morf": points.mean(1), "morf": curve}


def road_lerf(
    explanation: Explanation,
    fractions: Sequence[float] = FRACTIONS,
    noise: float = 0.01,
    output: str = "accuracy",
    seed: int = 0,
) -> MetricGenerator[dict[str, Tensor | Curve]]:
    """Mean accuracy over fractions of imputed pixels, least relevant first -> (B,); higher is better.

    {road_lerf: (B,), lerf: the curve, (B, fractions)}. Parameters: see `road_morf`.
    """
    points = yield imputed_images(explanation, "lowest", fractions, noise, output, seed)
    curve = Curve(points, fractions, "ROAD, least relevant first", "fraction of pixels imputed", output)
    return {"road_lerf": points.mean(1), "lerf": curve}


def road_combined(
    explanation: Explanation,
    fractions: Sequence[float] = FRACTIONS_COMBINED,
    noise: float = 0.01,
    output: str = "probability",
    seed: int = 0,
) -> MetricGenerator[Tensor]:
    """(road_lerf - road_morf) / 2 of the class's probability -> (B,) in [-1/2, 1/2]; higher is better.

    ROADCombined of pytorch-grad-cam, whose fractions and noise these are; ROAD's paper doesn't combine the two. At
    parameters equal to theirs it costs no pass beside road_morf and road_lerf. Parameters: see `road_morf`.
    """
    lerf = yield imputed_images(explanation, "lowest", fractions, noise, output, seed)
    morf = yield imputed_images(explanation, "highest", fractions, noise, output, seed)
    return (lerf.mean(1) - morf.mean(1)) / 2


def imputed_images(
    explanation: Explanation, first: str, fractions: Sequence[float], noise: float, output: str | None, seed: int
) -> PerturbedImages:
    """The images with each fraction of their pixels imputed; the answer is the model's confidence, (B, fractions).

    first: "highest" or "lowest" pixels of the map. output: None for the logits, (B, fractions, C).
    """
    if not fractions or not all(0 < fraction < 1 for fraction in fractions):
        raise BenchError(f"ROAD's fractions lie between 0 and 1; they are {list(fractions)}.")
    if not 0 <= noise < math.inf:
        raise BenchError(f"ROAD's noise is a standard deviation, 0 or more; it is {noise}.")
    trace, images = explanation.required_trace, explanation.required_images
    ranks = pixel_ranks(explanation, first)
    pixels = ranks[0].numel()
    counts = torch.tensor([min(round(fraction * pixels), pixels - 1) for fraction in fractions]).to(ranks)
    normal = trace.once(("road noise", seed), lambda: _normal(trace, seed))

    def perturbed(rows: slice, copies: slice) -> Tensor:
        from axiom_bench.metrics.shared.imputation import impute  # here, because numba takes a third of a second

        hole = torch.stack([ranks[rows] < count for count in counts[copies]], 1)  # (rows, copies, H', W')
        repeated = torch.stack([images[rows]] * hole.shape[1], 1)
        imputed = impute(repeated.flatten(0, 1), hole.flatten(0, 1)).view_as(repeated)
        return imputed + noise * hole[:, :, None] * normal[rows, None]

    key = ("road", first, tuple(fractions), noise, output, seed)
    same = ("imputed", noise, output, seed), numbers_of_first(ranks, counts.expand(len(ranks), -1))
    score = keep_logits if output is None else scoring(trace, output)
    return PerturbedImages(key, len(fractions), perturbed, score, same=same)


def _normal(trace: Trace, seed: int) -> Tensor:
    """Standard normal noise of the images' shape, an image's its own whatever else is in the batch."""
    shape, draws = trace.images.shape[1:], trace.generators(seed)
    return torch.stack([torch.randn(shape, generator=draw, dtype=torch.float64) for draw in draws]).to(trace.images)
