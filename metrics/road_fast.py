"""ROAD (Rong et al., arXiv:2202.00449) from logits that serve any output and fractions.

The logits of the imputed images are computed once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from axiom_bench.errors import BenchError
from axiom_bench.evaluation.queries import MetricGenerator
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.road import FRACTIONS, Imputation
from axiom_bench.metrics.shared.perturbation import confidence_in, takes_fields


@takes_fields
def road_morf_fast(
    explanation: Explanation,
    measured: Sequence[float] = FRACTIONS,
    imputation: Imputation = Imputation(),
) -> MetricGenerator[Tensor]:
    """Compute `road_morf` from logits that serve any output.

    Metrics with equal `measured`, noise and seed share their passes, whatever their output.

    Args:
        explanation: The explanation, with its heatmap (B, H', W') and its trace.
        measured: The fractions that are imputed, rising. The curve is interpolated between them, so
            that it is exact at these fractions.
        imputation: The fractions of the mean, noise, output and seed; see `road.Imputation`.

    Returns:
        The values, (B,); lower is better.

    Raises:
        BenchError: If the fractions lie outside of `measured`, or `road_morf` doesn't accept them.
    """
    return (yield from _mean(explanation, "highest", measured, imputation))


@takes_fields
def road_lerf_fast(
    explanation: Explanation,
    measured: Sequence[float] = FRACTIONS,
    imputation: Imputation = Imputation(),
) -> MetricGenerator[Tensor]:
    """Compute `road_lerf` from logits that serve any output; see `road_morf_fast`.

    Args:
        explanation: The explanation, with its heatmap (B, H', W') and its trace.
        measured: The fractions that are imputed, rising.
        imputation: The fractions of the mean, noise, output and seed; see `road.Imputation`.

    Returns:
        The values, (B,); higher is better.

    Raises:
        BenchError: If the fractions lie outside of `measured`, or `road_lerf` doesn't accept them.
    """
    return (yield from _mean(explanation, "lowest", measured, imputation))


def weights(fractions: Sequence[float], measured: Sequence[float]) -> Tensor:
    """Return how much each measured point counts in the mean over fractions.

    The mean is of the curve that is interpolated between the measured points.

    Args:
        fractions: The fractions of the mean.
        measured: The fractions that are measured, rising.

    Returns:
        The weights, (measured,), whose sum is 1.

    Raises:
        BenchError: If `measured` doesn't rise, or a fraction lies outside of it.
    """
    is_rising = all(low < high for low, high in pairwise(measured))
    has_points = len(measured) > 0 and len(fractions) > 0
    if (
        not is_rising
        or not has_points
        or not measured[0] <= min(fractions) <= max(fractions) <= measured[-1]
    ):
        raise BenchError(
            f"ROAD's fractions {list(fractions)} must lie within rising measured ones, not "
            f"{list(measured)}."
        )
    # A point's weight is the mean of the curve that is 1 at this point and 0 at all others.
    means = []
    for point in np.eye(len(measured)):
        curve = np.interp(fractions, measured, point)
        means.append(float(curve.mean()))
    return torch.tensor(means, dtype=torch.float64)


def _mean(
    explanation: Explanation, first: str, measured: Sequence[float], imputation: Imputation
) -> MetricGenerator[Tensor]:
    """Ask for the mean of the interpolated curve over the fractions: (B,)."""
    trace = explanation.required_trace
    point_weights = weights(imputation.fractions, measured)
    measured_imputation = replace(imputation, fractions=measured)
    logits = yield measured_imputation.request(explanation, first, keeps_logits=True)
    points = []
    for point_logits in logits.unbind(1):
        points.append(confidence_in(trace, point_logits, trace.targets, imputation.output))
    # No product of matrices, whose rounding may depend on a row's place in the batch.
    return (torch.stack(points, dim=1) * point_weights.to(logits.device)).sum(1)
