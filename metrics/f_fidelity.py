"""F-Fidelity: Zheng et al., ICLR 2025, arXiv:2410.02970.

The paper is "F-Fidelity: A Robust Framework for Faithfulness Evaluation of Explainable AI".
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from axiom_bench.errors import BenchError
from axiom_bench.evaluation.queries import MetricGenerator, PerturbedImages
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.shared.perturbation import score_function
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
    """Compute how much confidence a fine-tuned network loses as pixels are removed at random.

    For each of `fractions`, that share of the pixels may be removed. f_fidelity_plus takes them
    from the highest pixels of the map, and f_fidelity_minus from the lowest. Each of them is
    removed with probability alpha, or with beta / fraction if that is less. No more than a share
    beta of the image is therefore missing on average. A removed pixel is 0 in normalised pixels.
    The value is the confidence in the image itself less the mean over all draws and fractions. For
    each fraction and method the metric costs 2 `samples` passes, and one pass for the image. These
    passes are of the copy `finetuned` of the cut model.

    Args:
        explanation: The explanation, with its heatmap (B, H', W') and its trace.
        fractions: The shares of the pixels that may be removed.
        alpha: The largest probability that such a pixel is removed.
        beta: The largest share of the image that is missing on average.
        samples: The number of draws per fraction.
        output: The confidence that is read; see `shared.perturbation.confidence`.
        seed: The draws depend only on the image and the seed, so that all methods have the same.

    Returns:
        f_fidelity_plus, (B,), higher is better; and f_fidelity_minus, (B,), lower is better.

    Raises:
        BenchError: If a fraction, alpha or beta isn't above 0 and at most 1. Also if there is no
            fraction or sample, or the output is unknown.
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
            torch.rand(samples, *images.shape[2:], generator=generator)
            for generator in trace.generators(seed)
        ]
        return torch.stack(draws).to(images.device)

    # A pixel is removed if its draw is below the probability of its copy.
    draws = trace.once(("f_fidelity", samples, seed), uniform)
    copy_settings = []
    for first in ORDERS:
        ranks = pixel_ranks(explanation, first)
        for fraction in fractions:
            size = max(1, int(fraction * ranks[0].numel()))
            probability = min(alpha, beta / fraction)
            for sample in range(samples):
                copy_settings.append((ranks, size, probability, sample))

    def perturbed(rows: slice, copies: slice) -> Tensor:
        kept = []
        for ranks, size, probability, sample in copy_settings[copies]:
            is_removed = (ranks[rows] < size) & (draws[rows, sample] < probability)
            kept.append(~is_removed)
        return images[rows, None] * torch.stack(kept, 1)[:, :, None]

    def whole(rows: slice, copies: slice) -> Tensor:
        return images[rows, None]

    network = trace.cut_model.finetuned_cut
    score = score_function(trace, output)
    key = ("f_fidelity", tuple(fractions), alpha, beta, samples, output, seed)
    before = yield PerturbedImages(
        ("finetuned", output), 1, whole, score, depends_on_image_only=True, network=network
    )
    scores = yield PerturbedImages(key, len(copy_settings), perturbed, score, network=network)
    highest, lowest = scores.chunk(2, dim=1)  # as ORDERS
    plus = before - highest.mean(1, keepdim=True)
    minus = before - lowest.mean(1, keepdim=True)
    return {"f_fidelity_plus": plus[:, 0], "f_fidelity_minus": minus[:, 0]}
