"""ROAD, remove and debias: Rong et al., A Consistent and Efficient Evaluation Strategy for Attribution Methods, ICML
2022, arXiv:2202.00449.

Pixels are removed by noisy linear imputation, most relevant first (MoRF) or least relevant first (LeRF).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from axiom_bench.cutting.seeding import generators
from axiom_bench.errors import BenchError
from axiom_bench.evaluation.queries import Copies, in_blocks
from axiom_bench.explanation.explanation import Explanation, given
from axiom_bench.metrics.shared.imputation import impute
from axiom_bench.metrics.shared.perturbation import judged
from axiom_bench.metrics.shared.pixel_curves import pixel_ranks

FRACTIONS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 0.9)


def road_morf(
    explanation: Explanation,
    fractions: Sequence[float] = FRACTIONS,
    noise: float = 0.01,
    output: str = "accuracy",
    seed: int = 0,
) -> dict[str, Tensor]:
    """Mean accuracy over fractions of imputed pixels, most relevant first -> (B,); lower is better.

    {road_morf: (B,), morf: the curve, (B, fractions)}. fractions: of the pixels, between 0 and 1. noise: standard
    deviation of the normal noise on imputed pixels, in normalised pixels, drawn from `seed` and the image. output:
    "accuracy" as published, 1 where the class is still predicted; or "probability", "logit".
    Raises BenchError for a fraction that isn't between 0 and 1, and for noise that is negative or infinite.
    """
    curve = most_relevant_first(explanation, fractions, noise, output, seed).answer()
    return {"road_morf": curve.mean(1), "morf": curve}


def road_lerf(
    explanation: Explanation,
    fractions: Sequence[float] = FRACTIONS,
    noise: float = 0.01,
    output: str = "accuracy",
    seed: int = 0,
) -> dict[str, Tensor]:
    """Mean accuracy over fractions of imputed pixels, least relevant first -> (B,); higher is better.

    {road_lerf: (B,), lerf: the curve, (B, fractions)}. Parameters: see `road_morf`.
    """
    curve = least_relevant_first(explanation, fractions, noise, output, seed).answer()
    return {"road_lerf": curve.mean(1), "lerf": curve}


def road_combined(
    explanation: Explanation,
    fractions: Sequence[float] = FRACTIONS,
    noise: float = 0.01,
    output: str = "accuracy",
    seed: int = 0,
) -> Tensor:
    """(road_lerf - road_morf) / 2 -> (B,); higher is better. At equal parameters it costs no pass of its own.

    With output "probability" it is what pytorch-grad-cam calls ROADCombined. Parameters: see `road_morf`.
    """
    both = both_orders(explanation, fractions, noise, output, seed)
    lerf, morf = (copies.answer().mean(1) for copies in both)
    return (lerf - morf) / 2


def most_relevant_first(
    explanation: Explanation, fractions: Sequence[float], noise: float, output: str, seed: int
) -> Copies:
    """What the model says with each fraction of the pixels imputed, most relevant first: (B, fractions)."""
    return _copies(explanation, "highest", fractions, noise, output, seed)


def least_relevant_first(
    explanation: Explanation, fractions: Sequence[float], noise: float, output: str, seed: int
) -> Copies:
    """What the model says with each fraction of the pixels imputed, least relevant first: (B, fractions)."""
    return _copies(explanation, "lowest", fractions, noise, output, seed)


def both_orders(
    explanation: Explanation, fractions: Sequence[float], noise: float, output: str, seed: int
) -> list[Copies]:
    """`least_relevant_first` and `most_relevant_first`."""
    return [one(explanation, fractions, noise, output, seed) for one in (least_relevant_first, most_relevant_first)]


def _copies(
    explanation: Explanation, first: str, fractions: Sequence[float], noise: float, output: str, seed: int
) -> Copies:
    if not fractions or not all(0 < fraction < 1 for fraction in fractions):
        raise BenchError(f"ROAD's fractions lie between 0 and 1; they are {list(fractions)}.")
    if not 0 <= noise < math.inf:
        raise BenchError(f"ROAD's noise is a standard deviation, 0 or more; it is {noise}.")
    trace = given(explanation.trace, "trace")

    def blocks(rows: int) -> Iterator[Tensor]:
        return in_blocks(trace, len(fractions), _imputed(explanation, first, fractions, noise, seed))(rows)

    key = ("road", first, tuple(fractions), noise, output, seed)
    return Copies(trace, explanation, key, len(fractions), blocks, judged(trace, output))


def _imputed(
    explanation: Explanation, first: str, fractions: Sequence[float], noise: float, seed: int
) -> Callable[[slice, slice], Tensor]:
    """The images with each fraction of their pixels imputed, as `in_blocks` takes them."""
    trace, images = given(explanation.trace, "trace"), given(explanation.images, "images")
    heatmap = given(explanation.heatmap, "heatmap")
    ranks, pixels = pixel_ranks(heatmap, first), heatmap[0].numel()
    counts = torch.tensor([min(round(fraction * pixels), pixels - 1) for fraction in fractions]).to(ranks)
    normal = trace.once(("road noise", seed), lambda: _normal(images, seed))

    def perturbed(some: slice, copies: slice) -> Tensor:
        hole = ranks[some, None] < counts[copies, None, None]  # (images, copies, H', W')
        repeated = images[some, None].expand(-1, hole.shape[1], -1, -1, -1)
        imputed = impute(repeated.flatten(0, 1), hole.flatten(0, 1)).view_as(repeated)
        return imputed + noise * hole[:, :, None] * normal[some, None]

    return perturbed


def _normal(images: Tensor, seed: int) -> Tensor:
    """Standard normal noise of the images' shape, an image's its own whatever else is in the batch."""
    draws = generators(images, seed)
    return torch.stack([torch.randn(images.shape[1:], generator=draw, dtype=torch.float64) for draw in draws]).to(
        images
    )
