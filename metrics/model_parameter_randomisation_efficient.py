"""Efficient model parameter randomisation test: Hedström et al., xAI 2024.

The paper is "A Fresh Look at Sanity Checks for Saliency Maps".
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
from axiom_bench.metrics.shared.similarity import has_constant_values


def model_parameter_randomisation_efficient(
    explanation: Explanation, bins: int = 100, seed: int = 0
) -> MetricGenerator[Tensor]:
    """Compute (H' - H) / H, how much more complex the map gets when the model is randomised.

    H is the entropy of the histogram of the map's values. H' is that of the same method's map of
    the model with all parameters drawn again. The map is the signed raw map resized to the image,
    its values in millionths of their range. The metric costs one trace, shared by all methods, and
    one run of the method.

    Args:
        explanation: The explanation, with its raw map (B, h, w) and its trace.
        bins: The number of bins of equal width, from a map's least value to its largest.
        seed: The seed of the parameters.

    Returns:
        The changes, (B,), at least -1; higher is better. They are NaN if a map is constant.

    Raises:
        BenchError: If there are less than two bins.
    """
    if bins < 2:
        raise BenchError(
            f"model_parameter_randomisation_efficient needs two bins or more, not bins={bins}."
        )
    trace = explanation.required_trace
    complexity = partial(histogram_entropy, bins=bins)
    random_trace = partial(randomised_trace, trace, seed)
    # Other randomisation metrics ask for this trace under the same key, and so share it.
    randomised = yield Reexplanation(random_trace, complexity, randomised_key(seed))
    trained = complexity(explanation)
    rise: Tensor = (randomised - trained) / trained
    return rise


def histogram_entropy(explanation: Explanation, bins: int) -> Tensor:
    """Compute the entropy of the histogram of each map's values.

    Args:
        explanation: The explanation, with its raw map (B, h, w).
        bins: The number of bins of equal width.

    Returns:
        The entropies in nats, (B,). They are NaN if the raw map is constant, and infinite if it
        isn't finite.
    """
    raw_map = explanation.required_raw_map
    entropies = []
    for enlarged_map in enlarged(explanation).cpu().numpy():
        is_finite = np.isfinite(enlarged_map).all()
        entropies.append(_entropy(enlarged_map, bins) if is_finite else np.inf)
    values = torch.tensor(entropies, dtype=torch.float64, device=raw_map.device)
    return values.masked_fill(has_constant_values(raw_map), torch.nan)


def _entropy(values: np.ndarray, bins: int) -> float:
    """Compute the entropy of the histogram of one map's values."""
    values = values.astype(np.float64) - values.min()
    # In millionths of their range, a value on an edge doesn't change its bin by the last bit.
    millionths = np.rint(MILLION * (values / (values.max() or 1))).astype(np.int64)
    counts = np.bincount(np.minimum(millionths.ravel() * bins // MILLION, bins - 1))
    return float(stats.entropy(counts)) or np.nan  # a single bin means a constant map
