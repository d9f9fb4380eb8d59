"""Smooth model parameter randomisation test: Hedström et al., A Fresh Look at Sanity Checks for
Saliency Maps, xAI 2024.
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
    """The similarity of the map and the same method's map of a fully randomised model, both
    smoothed -> (B,).

    Near 0, or below: the map depends on what the model learned. A smoothed map is the mean of the
    signed raw maps of the image and of samples - 1 noisy copies of it. noise: standard deviation of
    the normal noise over the image's range, drawn from `seed` and the image. similarity: see
    `shared.similarity`, of the mean maps. NaN where a smoothed map is constant. Costs 2 samples - 1
    traces, for all methods, and the method for each. Raises BenchError for another similarity, less
    than one sample, and noise that is negative or infinite.
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
    trained = [_raw_map(explanation)]
    randomised = [
        (
            yield Reexplanation(
                partial(randomised_trace, trace, seed), _raw_map, randomised_key(seed)
            )
        )
    ]
    for sample in range(samples - 1):
        draw = ("smooth", noise, seed, sample)
        for maps, is_random in ((trained, False), (randomised, True)):
            other = partial(_noisy_trace, trace, noise, seed, sample, is_random)
            maps[0] = maps[0] + (yield Reexplanation(other, _raw_map, (*draw, is_random)))
    first, second = (_mean(explanation, maps[0] / samples) for maps in (trained, randomised))
    # Infinite where a noisy image's map isn't finite, since NaN means a constant map.
    return similarity_of(first, second, similarity).masked_fill(~first.finite, torch.inf)


def _noisy_trace(trace: Trace, noise: float, seed: int, sample: int, is_random: bool) -> Trace:
    images = noisy(trace.images, noise, trace.generators(f"{seed} smooth {sample}"))
    return trace.again(images=images, model=fully_randomised(trace, seed) if is_random else None)


def _raw_map(explanation: Explanation) -> Tensor:
    return explanation.required_raw_map.double()


def _mean(explanation: Explanation, raw_map: Tensor) -> Explanation:
    """A mean map, in the type of the raw map, at least float32: its rounding tells a constant
    map.
    """
    maps = raw_map.to(widened(explanation.required_raw_map).dtype)
    made = heatmap(maps, explanation.required_heatmap.shape[1:], explanation.normalise)
    return Explanation(raw_map=maps, heatmap=made, made=made)
