"""Smooth model parameter randomisation test: Hedström et al., xAI 2024.

The paper is "A Fresh Look at Sanity Checks for Saliency Maps".
"""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor

from axiom_bench.cutting.numerics import noisy
from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import BenchError
from axiom_bench.evaluation.queries import MetricGenerator, Reexplanation
from axiom_bench.explanation.explanation import Explanation, heatmap
from axiom_bench.metrics.shared.randomised import fully_randomised, randomised_key, randomised_trace
from axiom_bench.metrics.shared.rounding import widened
from axiom_bench.metrics.shared.similarity import similarity as similarity_of


def model_parameter_randomisation_smooth(
    explanation: Explanation,
    samples: int = 50,
    noise: float = 0.1,
    similarity: str = "spearman",
    seed: int = 0,
) -> MetricGenerator[Tensor]:
    """Compare the smoothed map with the same method's smoothed map of a fully randomised model.

    A smoothed map is the mean of the signed raw maps of the image and of samples - 1 noisy copies
    of it. The metric costs 2 samples - 1 traces, shared by all methods, and one run of the method
    for each.

    Args:
        explanation: The explanation, with its raw map (B, h, w) and its trace.
        samples: The number of maps that are averaged.
        noise: The standard deviation of the normal noise, relative to the image's range.
        similarity: The kind of similarity of the mean maps; see `shared.similarity`.
        seed: The noise is drawn from the seed and the image, and the parameters from the seed.

    Returns:
        The similarities, (B,). A value near 0, or below, shows that the map depends on what the
        model learned. A constant smoothed map gives NaN.

    Raises:
        BenchError: If the similarity is unknown, there is less than one sample, or the noise is
            negative or infinite.
    """
    if samples < 1:
        raise BenchError(
            "model_parameter_randomisation_smooth needs at least one sample, not "
            f"samples={samples}."
        )
    if not 0 <= noise < math.inf:
        raise BenchError(
            f"model_parameter_randomisation_smooth needs noise of 0 or more, not noise={noise}."
        )
    trace = explanation.required_trace
    random_trace = partial(randomised_trace, trace, seed)
    trained = _raw_map(explanation)
    randomised = yield Reexplanation(random_trace, _raw_map, randomised_key(seed))
    for sample in range(samples - 1):
        draw = ("smooth", noise, seed, sample)
        noisy_trace = partial(_noisy_trace, trace, noise, seed, sample)
        trained = trained + (
            yield Reexplanation(partial(noisy_trace, False), _raw_map, (*draw, False))
        )
        randomised = randomised + (
            yield Reexplanation(partial(noisy_trace, True), _raw_map, (*draw, True))
        )
    first = _mean(explanation, trained / samples)
    second = _mean(explanation, randomised / samples)
    # Infinite if a noisy image's map isn't finite, since NaN means a constant map.
    return similarity_of(first, second, similarity).masked_fill(~first.finite, torch.inf)


def _noisy_trace(trace: Trace, noise: float, seed: int, sample: int, is_random: bool) -> Trace:
    """Return the trace of noisy images, in the randomised model or in the trained one."""
    images = noisy(trace.images, noise, trace.generators(f"{seed} smooth {sample}"))
    return trace.again(images=images, model=fully_randomised(trace, seed) if is_random else None)


def _raw_map(explanation: Explanation) -> Tensor:
    """Return the signed raw map in float64."""
    return explanation.required_raw_map.double()


def _mean(explanation: Explanation, raw_map: Tensor) -> Explanation:
    """Return an explanation whose maps are a mean raw map and its heatmap."""
    # In the type of the raw map, at least float32, whose rounding tells whether a map is constant.
    maps = raw_map.to(widened(explanation.required_raw_map).dtype)
    size = explanation.required_heatmap.shape[1:]
    mean_heatmap = heatmap(maps, size, explanation.normalise)
    return Explanation(raw_map=maps, heatmap=mean_heatmap, made=mean_heatmap)
