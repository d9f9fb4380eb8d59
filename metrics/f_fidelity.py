"""F-Fidelity: Zheng et al., F-Fidelity: A Robust Framework for Faithfulness Evaluation of
Explainable AI, ICLR 2025, arXiv:2410.02970.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from axiom_bench.errors import BenchError
from axiom_bench.evaluation.queries import MetricGenerator, PerturbedImages
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.shared.perturbation import scoring
from axiom_bench.metrics.shared.pixel_order import ORDERS, pixel_ranks


def f_fidelity(
    explanation: Explanation,
    fractions: Sequence[float] = (0.1, 0.3, 0.5, 0.7, 0.9),
    alpha: float = 0.5,
    beta: float = 0.1,
    samples: int = 10,
    output: str = "accuracy",
    seed: int = 0,
) -> MetricGenerator[dict[str, Tensor]]:
    """{f_fidelity_plus, f_fidelity_minus} -> (B,) each: how much confidence a fine-tuned copy of
    the network loses as the highest, or the lowest, pixels of the map are removed at random.

    For each of `fractions` the pixels in question are that share of all. Each of them is removed
    with probability alpha, or beta / fraction where that is less, so that no more than a share beta
    of the image is missing on average. A removed pixel is 0 in normalised pixels. The value is the
    confidence in the image itself less the mean over `samples` draws and all fractions. Plus is of
    the highest pixels, higher is better; minus of the lowest, lower is better. output: see
    `shared.perturbation.confidence`. Draws depend on the image and `seed` alone, so that all
    methods have the same. Costs 2 samples passes for each fraction and method, and one for the
    image, of the copy `finetuned` of the cut model. Raises BenchError for a fraction, alpha or beta
    that isn't above 0 and at most 1, for less than one fraction or sample, and for another output.
    """
    shares = (*fractions, alpha, beta)
    if not fractions or samples < 1 or not all(0 < share <= 1 for share in shares):
        raise BenchError(
            "f_fidelity needs fractions, an alpha and a beta above 0 and at most 1, and at least "
            f"one sample; they are {list(fractions)}, {alpha}, {beta} and {samples}."
        )
    trace = explanation.required_trace
    images = explanation.required_images

    def uniform() -> Tensor:
        draws = [
            torch.rand(samples, *images.shape[2:], generator=each)
            for each in trace.generators(seed)
        ]
        return torch.stack(draws).to(images.device)

    removes = trace.once(
        ("f_fidelity", samples, seed), uniform
    )  # where it is below the probability
    ranks = [pixel_ranks(explanation, first) for first in ORDERS]
    sizes = [max(1, int(fraction * ranks[0][0].numel())) for fraction in fractions]
    copies_of = [
        (of, size, min(alpha, beta / fraction), draw)
        for of in ranks
        for size, fraction in zip(sizes, fractions, strict=True)
        for draw in range(samples)
    ]

    def perturbed(rows: slice, copies: slice) -> Tensor:
        kept = [
            ~((of[rows] < size) & (removes[rows, draw] < probability))
            for of, size, probability, draw in copies_of[copies]
        ]
        return images[rows, None] * torch.stack(kept, 1)[:, :, None]

    def whole(rows: slice, copies: slice) -> Tensor:
        return images[rows, None]

    network = trace.cut_model.on_finetuned
    score = scoring(trace, output)
    key = ("f_fidelity", tuple(fractions), alpha, beta, samples, output, seed)
    before = yield PerturbedImages(
        ("finetuned", output), 1, whole, score, of_image=True, network=network
    )
    scores = yield PerturbedImages(key, len(copies_of), perturbed, score, network=network)
    plus, minus = (before - each.mean(1, keepdim=True) for each in scores.chunk(2, dim=1))
    return {"f_fidelity_plus": plus[:, 0], "f_fidelity_minus": minus[:, 0]}
