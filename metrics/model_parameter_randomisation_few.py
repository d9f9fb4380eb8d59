"""Model parameter randomisation (Adebayo et al., NeurIPS 2018) by some of its stages: passes don't grow with depth."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from axiom_bench.errors import BenchError
from axiom_bench.evaluation.queries import MetricGenerator
from axiom_bench.explanation.explanation import Explanation, given
from axiom_bench.metrics.model_parameter_randomisation import similarities
from axiom_bench.metrics.shared.randomised import number_of_layers


def model_parameter_randomisation_few(
    explanation: Explanation, stages: int = 9, similarity: str = "spearman", seed: int = 0
) -> MetricGenerator[Tensor]:
    """`model_parameter_randomisation` by `stages` of the stages that it has, one a layer -> (B,).

    The first, the last and equally spaced ones between; the others are interpolated. Where there are no more layers it
    is the same. Which layers are left out is the same for all images, as the random values are, so a mean moves by it.
    Costs a trace a stage, for all methods, the last of them shared with the other randomisations.
    Raises BenchError for less than two stages, and another similarity.
    """
    if stages < 2:
        raise BenchError(f"model_parameter_randomisation_few needs at least two stages, not stages={stages}.")
    layers = number_of_layers(given(explanation.trace, "trace").cut_model.model)
    chosen = spread(layers, stages)
    points = yield from similarities(explanation, "cascading", layers, chosen, similarity, seed)
    weights = [np.interp(range(layers), chosen, point).mean() for point in np.eye(len(chosen))]
    return points @ torch.tensor(weights, dtype=torch.float64).to(points)


def model_parameter_randomisation_independent_few(
    explanation: Explanation, stages: int = 15, similarity: str = "spearman", seed: int = 0
) -> MetricGenerator[Tensor]:
    """`model_parameter_randomisation_independent` by `stages` layers, each in the middle of as many -> (B,).

    By turns of an even and an odd place, since convolutions and batch norms follow each other, and maps stand these
    much better. Where there are no more layers it is the same. Costs a trace a stage, for all methods.
    Raises BenchError for less than one stage, and another similarity.
    """
    if stages < 1:
        raise BenchError(
            f"model_parameter_randomisation_independent_few needs at least one stage, not stages={stages}."
        )
    layers = number_of_layers(given(explanation.trace, "trace").cut_model.model)
    chosen = by_turns(layers, stages)
    return (yield from similarities(explanation, "independent", layers, chosen, similarity, seed)).mean(1)


def spread(layers: int, stages: int) -> list[int]:
    """Rising places of stages: both ends and equally spaced ones between, rounded; all where there are no more."""
    return list(range(layers)) if layers <= stages else np.linspace(0, layers - 1, stages).round().astype(int).tolist()


def by_turns(layers: int, stages: int) -> list[int]:
    """Rising places of stages, the middles of equal parts, by turns even and odd; all where there are no more."""
    if layers <= stages:
        return list(range(layers))
    middles = ((np.arange(stages) + 0.5) * layers / stages - 0.5).astype(int)
    return np.unique(np.minimum(middles + (middles + np.arange(stages)) % 2, layers - 1)).tolist()
