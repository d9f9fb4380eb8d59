"""Efficient model parameter randomisation test: Hedström et al., A Fresh Look at Sanity Checks for
Saliency Maps, xAI 2024.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from axiom_bench.errors import BenchError
from axiom_bench.evaluation.queries import MetricGenerator, Reexplanation
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.shared.cells import enlarged
from axiom_bench.metrics.shared.randomised import randomised_key, randomised_trace
from axiom_bench.metrics.shared.rounding import MILLION
from axiom_bench.metrics.shared.similarity import constant


def model_parameter_randomisation_efficient(
    explanation: Explanation, bins: int = 100, seed: int = 0
) -> MetricGenerator[Tensor]:
    """(H' - H) / H: how much more complex the map gets when all of the model is randomised -> (B,),
    higher is better.

    H is the entropy of the histogram of the map's values, of `bins` bins of equal width from its
    least to its largest. H' is the same of the same method's map of the model with all parameters
    drawn again. The map is the signed raw map resized to the image, its values in millionths of
    their range. At least -1. NaN where a map is constant. Costs one trace, for all methods, and the
    method. Raises BenchError for less than two bins.
    """
    if bins < 2:
        raise BenchError(
            f"model_parameter_randomisation_efficient needs two bins or more, not bins={bins}."
        )
    trace = explanation.required_trace
    complexity = partial(histogram_entropy, bins=bins)
    randomised = yield Reexplanation(
        partial(randomised_trace, trace, seed), complexity, randomised_key(seed)
    )
    trained = complexity(explanation)
    return (randomised - trained) / trained


def histogram_entropy(explanation: Explanation, bins: int) -> Tensor:
    """The entropy, in nats, of the histogram of each map's values: (B,).

    NaN where the raw map is constant, infinite where it isn't finite.
    """
    raw_map = explanation.required_raw_map
    maps = enlarged(explanation).cpu().numpy()
    values = [_entropy(each, bins) if np.isfinite(each).all() else np.inf for each in maps]
    return torch.tensor(values, dtype=torch.float64, device=raw_map.device).masked_fill(
        constant(raw_map), torch.nan
    )


def _entropy(values: np.ndarray, bins: int) -> float:
    """Of values in millionths of their range, so that what lies on an edge doesn't change its bin
    by the last bit.
    """
    values = values.astype(np.float64) - values.min()
    millionths = np.rint(MILLION * (values / (values.max() or 1))).astype(np.int64)
    counts = np.bincount(np.minimum(millionths.ravel() * bins // MILLION, bins - 1))
    return float(stats.entropy(counts)) or np.nan  # one bin: constant
