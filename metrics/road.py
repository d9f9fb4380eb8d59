"""ROAD, remove and debias: Rong et al., ICML 2022, arXiv:2202.00449.

The paper is "A Consistent and Efficient Evaluation Strategy for Attribution Methods". Pixels are
removed by noisy linear imputation, most relevant first (MoRF) or least relevant first (LeRF).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import BenchError
from axiom_bench.evaluation.queries import MetricGenerator, PerturbedImages, keep_logits
from axiom_bench.explanation.explanation import Curve, Explanation
from axiom_bench.metrics.shared.perturbation import first_set_numbers, score_function, takes_fields
from axiom_bench.metrics.shared.pixel_order import pixel_ranks

FRACTIONS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 0.9)
FRACTIONS_COMBINED = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


@dataclass(frozen=True)
class Imputation:
    """Images with a share of their pixels imputed; its fields are parameters of ROAD's metrics."""

    fractions: Sequence[float] = FRACTIONS
    """The shares of the pixels that are imputed, between 0 and 1."""
    noise: float = 0.01
    """The standard deviation of the normal noise on imputed pixels, in the network's input."""
    output: str = "accuracy"
    """The confidence that is read; see `shared.perturbation.confidence`. The paper's is
    "accuracy"."""
    seed: int = 0
    """The noise is drawn from the seed and the image."""

    def request(
        self, explanation: Explanation, first: str, keeps_logits: bool = False
    ) -> PerturbedImages:
        """Ask for the model's confidence in the images with each fraction of their pixels imputed.

        Args:
            explanation: The explanation, with its heatmap (B, H', W') and its trace.
            first: "highest" or "lowest", the pixels of the map that are imputed.
            keeps_logits: If True, ask for the logits instead.

        Returns:
            The request, whose answer is (B, fractions), or (B, fractions, C) logits.

        Raises:
            BenchError: If a fraction isn't between 0 and 1, or the noise is negative or infinite.
        """
        if not self.fractions or not all(0 < fraction < 1 for fraction in self.fractions):
            raise BenchError(
                f"ROAD's fractions lie between 0 and 1; they are {list(self.fractions)}."
            )
        if not 0 <= self.noise < math.inf:
            raise BenchError(
                f"ROAD's noise is a standard deviation, 0 or more; it is {self.noise}."
            )
        trace = explanation.required_trace
        images = explanation.required_images
        ranks = pixel_ranks(explanation, first)
        pixels = ranks[0].numel()
        # At least one pixel remains, from which the others are imputed.
        numbers_of_pixels = [
            min(round(fraction * pixels), pixels - 1) for fraction in self.fractions
        ]
        counts = torch.tensor(numbers_of_pixels).to(ranks)
        normal = trace.once(("road noise", self.seed), lambda: _normal(trace, self.seed))

        def perturbed(rows: slice, copies: slice) -> Tensor:
            # Imported only when it is needed, because numba takes a third of a second.
            from axiom_bench.metrics.shared.imputation import impute

            # (rows, copies, H', W')
            hole = torch.stack([ranks[rows] < count for count in counts[copies]], 1)
            repeated = torch.stack([images[rows]] * hole.shape[1], 1)
            imputed = impute(repeated.flatten(0, 1), hole.flatten(0, 1)).view_as(repeated)
            return imputed + self.noise * hole[:, :, None] * normal[rows, None]

        answer = "logits" if keeps_logits else self.output
        score = keep_logits if keeps_logits else score_function(trace, self.output)
        key = ("road", first, tuple(self.fractions), self.noise, answer, self.seed)
        numbers = first_set_numbers(ranks, counts.expand(len(ranks), -1))
        same = (("imputed", self.noise, answer, self.seed), numbers)
        return PerturbedImages(key, len(counts), perturbed, score, same=same)


@takes_fields
def road_morf(
    explanation: Explanation, imputation: Imputation = Imputation()
) -> MetricGenerator[dict[str, Tensor | Curve]]:
    """Average the accuracy over fractions of imputed pixels, most relevant first.

    Args:
        explanation: The explanation, with its heatmap (B, H', W') and its trace.
        imputation: The fractions, noise, output and seed; see `Imputation`.

    Returns:
        road_morf, (B,), lower is better; and the curve morf, (B, fractions).

    Raises:
        BenchError: If a fraction isn't between 0 and 1, or the noise is negative or infinite.
    """
    points = yield imputation.request(explanation, "highest")
    curve = Curve(
        points,
        imputation.fractions,
        "ROAD, most relevant first",
        "fraction of pixels imputed",
        imputation.output,
    )
    return {"road_morf": points.mean(1), "morf": curve}


@takes_fields
def road_lerf(
    explanation: Explanation, imputation: Imputation = Imputation()
) -> MetricGenerator[dict[str, Tensor | Curve]]:
    """Average the accuracy over fractions of imputed pixels, least relevant first.

    Args:
        explanation: The explanation, with its heatmap (B, H', W') and its trace.
        imputation: The fractions, noise, output and seed; see `Imputation`.

    Returns:
        road_lerf, (B,), higher is better; and the curve lerf, (B, fractions).

    Raises:
        BenchError: If a fraction isn't between 0 and 1, or the noise is negative or infinite.
    """
    points = yield imputation.request(explanation, "lowest")
    curve = Curve(
        points,
        imputation.fractions,
        "ROAD, least relevant first",
        "fraction of pixels imputed",
        imputation.output,
    )
    return {"road_lerf": points.mean(1), "lerf": curve}


@takes_fields
def road_combined(
    explanation: Explanation,
    imputation: Imputation = Imputation(FRACTIONS_COMBINED, output="probability"),
) -> MetricGenerator[Tensor]:
    """Compute (road_lerf - road_morf) / 2 of the class's probability.

    This is ROADCombined of pytorch-grad-cam, with its fractions and noise. ROAD's paper doesn't
    combine the two. With the same parameters as road_morf and road_lerf it needs no passes of its
    own.

    Args:
        explanation: The explanation, with its heatmap (B, H', W') and its trace.
        imputation: The fractions, noise, output and seed; see `Imputation`.

    Returns:
        The values, (B,) in [-1/2, 1/2]; higher is better.

    Raises:
        BenchError: If a fraction isn't between 0 and 1, or the noise is negative or infinite.
    """
    lerf = yield imputation.request(explanation, "lowest")
    morf = yield imputation.request(explanation, "highest")
    score: Tensor = (lerf.mean(1) - morf.mean(1)) / 2
    return score


def _normal(trace: Trace, seed: int) -> Tensor:
    """Return standard normal noise of the images' shape, which depends only on image and seed."""
    shape = trace.images.shape[1:]
    draws = trace.generators(seed)
    noise = [torch.randn(shape, generator=draw, dtype=torch.float64) for draw in draws]
    return torch.stack(noise).to(trace.images)
